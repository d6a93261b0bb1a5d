package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/packer"
	"quantize/recipe"
)

// unfinished does a job that ends when all blocks are finished and kept, before the files
// that are made last.
func unfinished(t *testing.T, j job, recipeName string) {
	t.Helper()
	var err error
	if j.recipe, err = recipe.Load(recipeName); err != nil {
		t.Fatal(err)
	}
	e := &env{out: io.Discard, err: io.Discard}
	b := begun(t, e, j)
	defer func() { e.closeJournal(b.journal, err) }()
	end := errors.New("the end of the test's run")
	b.options.Finish = func(context.Context, *checkpoint.Reader) (map[string][]byte, error) { return nil, end }
	if _, err = e.work(t.Context(), b.source, j, b.windows, b.options); !errors.Is(err, end) {
		t.Fatalf("error %v, want %v", err, end)
	}
}

// beginning is a job whose journal has its inputs and whose work has not begun.
type beginning struct {
	journal *checkpoint.Journal
	source  *loaded
	windows [][]int32
	options packer.ExportOptions
}

// begun begins a job. The caller closes its journal.
func begun(t *testing.T, e *env, j job) *beginning {
	t.Helper()
	var b beginning
	var err error
	if b.journal, err = e.openJournal(j.out); err != nil {
		t.Fatal(err)
	}
	if b.source, err = load(j.model); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.source.close)
	if b.options, err = exportOptions(b.source.config, j.recipe); err != nil {
		t.Fatal(err)
	}
	if b.windows, err = e.begin(t.Context(), b.source, j, b.journal); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestLastingErrors: what is kept is thrown away for what the same inputs always meet, and
// not for what the file system says.
func TestLastingErrors(t *testing.T) {
	t.Parallel()
	path := &fs.PathError{Op: "read", Path: "tokenizer.json", Err: fs.ErrPermission}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&fault.Error{Err: packer.ErrInvalid, Where: "weight[0, 0]", Found: "NaN"}, true},
		{fmt.Errorf("layer 3: %w", checkpoint.ErrInvalid), true},
		{calibrate.ErrInvalid, true},
		{recipe.ErrInvalid, true},
		{packer.ErrOption, true},
		{&fault.Error{Err: fmt.Errorf("%w: %w", checkpoint.ErrInvalid, path)}, false},
		{fmt.Errorf("%w: %w", checkpoint.ErrInvalid, io.ErrUnexpectedEOF), false},
		{fmt.Errorf("%w: %w", checkpoint.ErrOutput, checkpoint.ErrInvalid), false},
		{context.Canceled, false},
	} {
		if got := lasting(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
