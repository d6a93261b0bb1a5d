package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// outside refuses an output that has no name, and one inside the source, which is never
// written to. Paths do not tell: a link to the source is another name of it.
func outside(source, out string) error {
	if out == "" {
		return &fault.Error{Err: checkpoint.ErrOutput, Where: "-o", Found: "an empty name", Wanted: "a directory that is empty or does not exist yet", Hint: "name one"}
	}
	from, _ := os.Stat(source) // nil where there is none, of which the opening tells
	at, err := existing(out)
	if err != nil {
		return err
	}
	for {
		if here, err := os.Stat(at); err == nil && os.SameFile(from, here) {
			return &fault.Error{Err: checkpoint.ErrOutput, Where: out, Found: "a directory inside the source", Wanted: "one beside it", Hint: "the source checkpoint is never written to"}
		}
		up := filepath.Dir(at)
		if up == at {
			return nil
		}
		at = up
	}
}

// existing is the deepest directory on the way to out that there is, without links.
func existing(out string) (string, error) {
	path, err := filepath.Abs(out)
	for err == nil {
		var resolved string
		if resolved, err = filepath.EvalSymlinks(path); err == nil {
			return resolved, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if target, link := os.Readlink(path); link == nil {
			return "", &fault.Error{
				Err: checkpoint.ErrOutput, Where: path, Found: "a symbolic link to " + target + ", which does not exist",
				Wanted: "a directory that is empty or does not exist yet", Hint: "make the directory that it leads to, or name another output",
			}
		}
		path, err = filepath.Dir(path), nil
	}
	return "", &fault.Error{Err: errors.Join(checkpoint.ErrOutput, err), Where: out, Wanted: "a directory that is empty or does not exist yet", Hint: "name another output"}
}
