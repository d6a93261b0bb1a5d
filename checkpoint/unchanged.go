package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"quantize/internal/fault"
)

// ErrChanged says that the files of a checkpoint are not what they were when it was
// opened. It is an [ErrInvalid].
var ErrChanged = fmt.Errorf("%w: the source was changed", ErrInvalid)

// Unchanged reports with [ErrChanged] a file that was written to since the checkpoint was
// opened: its size, or its time of change, is another. Shards are asked by what is open,
// since one that another took the place of is still read as it was; config.json, the index
// and the files to copy by their names.
func (r *Reader) Unchanged() error {
	for _, s := range r.shards {
		now, err := s.f.Stat()
		if err != nil {
			return readFault(r.root.path(s.File), err)
		}
		if !same(s.opened, now) {
			return changed(r.root.path(s.File), now)
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(r.opened)) {
		now, err := r.root.root.Stat(r.root.below(rel))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return readFault(r.root.path(rel), err)
		}
		if err != nil || !same(r.opened[rel], now) {
			return changed(r.root.path(rel), now)
		}
	}
	return nil
}

// remember takes down what files are like. One that is not there, or leads nowhere, is
// told by who reads it.
func (r *Reader) remember(files ...string) {
	for _, rel := range files {
		if st, err := r.root.root.Stat(r.root.below(rel)); err == nil {
			r.opened[rel] = st
		}
	}
}

func same(then, now fs.FileInfo) bool {
	return now.Size() == then.Size() && now.ModTime().Equal(then.ModTime())
}

// changed describes a file that is another now, or nil, gone.
func changed(file string, now fs.FileInfo) error {
	found := "no such file any more"
	if now != nil {
		found = "a write at " + now.ModTime().UTC().Format("2006-01-02 15:04:05 MST")
	}
	return &fault.Error{
		Err: ErrChanged, Where: file, Found: found,
		Wanted: "a source that nobody changes meanwhile", Hint: "run again when it is complete",
	}
}
