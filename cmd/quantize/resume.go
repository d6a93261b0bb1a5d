package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// openJournal locks the output and opens what an earlier run has finished of it.
func (e *env) openJournal(out string) (*checkpoint.Journal, error) {
	return checkpoint.OpenJournal(out, func(message string) { fmt.Fprintf(e.err, "warning: %s\n", message) })
}

// closeJournal ends the work on an output, of which nothing is kept when it is complete. The
// output is not worse for what cannot be removed beside it: that is a warning.
func (e *env) closeJournal(j *checkpoint.Journal, err error) {
	end := j.Close
	if err == nil {
		end = j.Done
	}
	if closing := end(); closing != nil && err == nil {
		fmt.Fprintf(e.err, "warning: the output is complete, what was kept of the work is not removed: %v\n", closing)
	}
}

// begin reads all that the bytes of the output depend on, and finds out whether
// the journal is of the same. It returns the calibration text.
func (e *env) begin(ctx context.Context, l *loaded, j job, journal *checkpoint.Journal) (windows [][]int32, err error) {
	if j.recipe.Calibrated() {
		if windows, err = calibrationWindows(l, j); err != nil {
			return nil, err
		}
	}
	if l.sums, err = l.reader.Hashes(ctx); err != nil {
		return nil, err
	}
	journal.Guard(l.reader.Unchanged)
	l.journal = journal
	l.buffer = model.Buffer{Bytes: j.memory, File: func() (model.BufferFile, error) { return journal.Spill() }}
	inputs := []checkpoint.Input{
		{Name: "source", Value: l.sourceHash()},
		{Name: "recipe", Value: j.recipe.Name + " " + j.recipe.Hash()[:12]},
		{Name: "calibration", Value: packer.NewCalibration(windows).SHA256},
		{Name: "program", Value: program()},
		{Name: "processor", Value: arithmetic(l.compute, j.recipe)},
	}
	if err := journal.Begin(inputs, j.fresh); err != nil {
		return nil, err
	}
	if n := journal.Count(""); n > 0 {
		fmt.Fprintf(e.err, "resume: %d of %d blocks and %d other parts are finished, in %s\n",
			journal.Count(packer.BlockPart), l.config.Layers, n-journal.Count(packer.BlockPart), journal.Dir())
	}
	return windows, nil
}

// sourceHash is a hash of the configuration and of all tensors.
func (l *loaded) sourceHash() string {
	sum := sha256.New()
	_, _ = sum.Write(l.reader.ConfigJSON()) // a hash does not fail
	for _, name := range l.reader.Names() {
		info, _ := l.reader.Info(name) // the reader has what it lists
		fmt.Fprintf(sum, "\n%s %v %v %s", name, info.DType, info.Shape, l.sums[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// program names this build. One that cannot read itself goes on from nothing.
func program() string {
	sum, err := programSum()
	if err != nil {
		return tool + " " + rand.Text()
	}
	return tool + " " + sum[:12]
}

// arithmetic names the order of sums, for recipes whose bytes follow it
// (docs/numerics.md); rounding alone gives the same bytes everywhere.
func arithmetic(c *cpu.Compute, r *recipe.Recipe) string {
	if r.Calibrated() || !r.Smoothing.IsZero() {
		return runtime.GOARCH + " " + c.ISA().String()
	}
	return runtime.GOARCH
}

// keptError is the end of a run of which something is kept.
type keptError struct {
	err  error
	note string
}

func (k *keptError) Error() string { return k.err.Error() + "; " + k.note }
func (k *keptError) Unwrap() error { return k.err }

// kept ends a run that failed: it tells what the next one will find, and leaves nothing of
// a source that cannot be quantized.
func (j job) kept(journal *checkpoint.Journal, layers int, err error) error {
	blocks := journal.Count(packer.BlockPart)
	what := fmt.Sprintf("%d of %d blocks", blocks, layers)
	switch {
	case j.once, journal.Count("") == 0, errors.Is(err, checkpoint.ErrChanged): // the same command would not find the same source
		return err
	case lasting(err):
		_ = journal.Done() // what stays after all is refused by name the next time
		return err
	case blocks == 0:
		what = "finished parts of the work before the first block"
	}
	again := "the same command"
	if j.fresh {
		again += " without --fresh"
	}
	return &keptError{err, fmt.Sprintf("%s are kept in %s, and %s goes on from there", what, journal.Dir(), again)}
}

// lasting reports an error that the same command would meet again, in the contents of the
// source or in the recipe. When that is mended, its hash is another, and what was finished
// is nobody's. What the file system says may pass.
func lasting(err error) bool {
	var file *fs.PathError
	if errors.As(err, &file) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, checkpoint.ErrOutput) {
		return false
	}
	return slices.ContainsFunc([]error{checkpoint.ErrInvalid, calibrate.ErrInvalid, recipe.ErrInvalid, packer.ErrOption}, func(of error) bool { return errors.Is(err, of) })
}

// interrupted is what is said of a run that the user has ended.
func interrupted(err error) error {
	var k *keptError
	if errors.As(err, &k) {
		return errors.New("interrupted; " + k.note)
	}
	return errors.New("interrupted; nothing was left behind")
}
