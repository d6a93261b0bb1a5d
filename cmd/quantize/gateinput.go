package main

import (
	"os"

	"quantize/eval"
	"quantize/internal/fault"
)

// sizes opens what is judged, before anything is computed, for all that budgets of bytes
// need. A gate that compares other than a quantized checkpoint with its base would pass.
func (o gateOptions) sizes(dirs, names []string) ([]eval.Measured, error) {
	base, err := load(o.base)
	if err != nil {
		return nil, err
	}
	defer base.close()
	texts, err := textNames(o.texts)
	if err != nil {
		return nil, err
	}
	measured := make([]eval.Measured, len(dirs))
	for i, dir := range dirs {
		l, err := load(dir)
		if err != nil {
			return nil, err
		}
		measured[i] = eval.Measured{Model: names[i], Bytes: l.tensorBytes(), Texts: texts}
		err = quantizedFrom(l, base)
		l.close()
		if err != nil {
			return nil, err
		}
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
