package main

import (
	"os"

	"quantize/eval"
	"quantize/internal/fault"
)

// checkpoints are open ones by the directory that the user named.
type checkpoints map[string]*loaded

func (o checkpoints) close() {
	for _, l := range o {
		l.close()
	}
}

// open opens what is judged and its base, once, before anything is computed. A gate that
// compares other than a quantized checkpoint with its base would pass.
func (o gateOptions) open(dirs []string) (_ checkpoints, err error) {
	all := checkpoints{}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	base, err := load(o.base)
	if err != nil {
		return nil, err
	}
	all[o.base] = base
	for _, dir := range dirs {
		l := all[dir] // named twice
		if l == nil {
			if l, err = load(dir); err != nil {
				return nil, err
			}
			all[dir] = l
		}
		if err := quantizedFrom(l, base); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sizes are all that budgets of bytes need.
func (o gateOptions) sizes(dirs, names []string, open checkpoints) ([]eval.Measured, error) {
	texts, err := textNames(o.texts)
	if err != nil {
		return nil, err
	}
	measured := make([]eval.Measured, len(dirs))
	for i, dir := range dirs {
		measured[i] = eval.Measured{Model: names[i], Bytes: open[dir].tensorBytes(), Texts: texts}
	}
	return measured, nil
}

// quantizedFrom demands a quantized checkpoint, and that base can be what it was made from.
func quantizedFrom(l, base *loaded) error {
	dir, baseDir := l.reader.Dir(), base.reader.Dir()
	same, err := sameFile(dir, baseDir)
	switch {
	case err != nil:
		return err
	case same:
		return &fault.Error{Err: eval.ErrInput, Where: dir, Found: "the directory of --base " + baseDir, Wanted: "two checkpoints", Hint: "OUT is what `quantize run` made of MODEL"}
	case l.quant == nil:
		return &fault.Error{
			Err: eval.ErrInput, Where: dir, Found: "a checkpoint of full precision", Wanted: "one that was quantized from " + baseDir,
			Hint: "OUT is what `quantize run` made of MODEL",
		}
	}
	return sameShape(l, base)
}

// sameFile says that two names lead to one file or directory.
func sameFile(a, b string) (bool, error) {
	ia, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	ib, err := os.Stat(b)
	return err == nil && os.SameFile(ia, ib), err
}
