package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"quantize/checkpoint"
	"quantize/internal/atomicfile"
	"quantize/internal/fault"
)

// namedFile is a file as a flag names it; path "" is none.
type namedFile struct{ flag, path string }

// apart demands a file of its own for every output: what is written last would take the
// place of another output, or of what the user wrote.
func apart(outputs, inputs []namedFile) error {
	for i, o := range outputs {
		for _, other := range slices.Concat(outputs[:i], inputs) {
			if o.path != "" && other.path != "" && atomicfile.Same(o.path, other.path) {
				return &usageError{&fault.Error{
					Where: other.flag + " and " + o.flag, Found: fmt.Sprintf("one file, %s and %s", other.path, o.path),
					Wanted: "a file for each", Hint: "name another one for " + o.flag,
				}}
			}
		}
	}
	return nil
}

// writable finds the files that could not be written, before the work whose results they
// are to have; "" is no file.
func writable(paths ...string) error {
	var faults []error
	for _, path := range paths {
		if path == "" {
			continue
		}
		if err := atomicfile.CanPut(path); err != nil {
			faults = append(faults, outputFault(path, err))
		}
	}
	return errors.Join(faults...)
}

// writeOutput writes a file that the user named; "" is none.
func writeOutput(path string, data []byte) error {
	if path == "" {
		return nil
	}
	if err := atomicfile.Put(path, data); err != nil {
		return outputFault(path, err)
	}
	return nil
}

// outputFault says why the file or directory at path, as the user gave it, cannot be
// written; err may name a temporary one beside it.
func outputFault(path string, err error) error {
	var place *os.PathError
	var renamed *os.LinkError
	cause, dir := err, filepath.Dir(path)
	if errors.As(err, &place) {
		cause, dir = place.Err, filepath.Dir(place.Path)
	} else if errors.As(err, &renamed) {
		cause, dir = renamed.Err, filepath.Dir(renamed.New)
	}
	f := &fault.Error{
		Err: fmt.Errorf("%w: %w", checkpoint.ErrOutput, cause), Where: path,
		Found: cause.Error(), Wanted: "a place that can be written to", Hint: "name another one",
	}
	switch {
	case errors.Is(cause, fs.ErrNotExist):
		f.Found, f.Wanted, f.Hint = "no directory "+dir, "one that exists", "mkdir -p "+dir
	case errors.Is(cause, syscall.ENOTDIR):
		f.Found, f.Wanted = "a file in place of a directory", "a directory to write in"
	case errors.Is(cause, syscall.EISDIR):
		f.Found, f.Wanted, f.Hint = "a directory", "the name of a file", "name a file in it"
	case errors.Is(cause, fs.ErrPermission), errors.Is(cause, syscall.EROFS):
		f.Found, f.Hint = "no permission to write in "+dir, "make the directory writable or name another place"
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		f.Found, f.Wanted, f.Hint = "no space", "room for the file", "free space on this disk or name a place on a larger one"
	}
	return f
}
