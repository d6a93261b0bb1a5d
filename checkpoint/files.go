package checkpoint

import (
	"errors"
	"fmt"
	"io"

	"quantize/internal/fault"
)

// CheckFiles opens each of [Reader.Files]: one that cannot be read is told before the work
// whose output it belongs to, and not after.
func (r *Reader) CheckFiles() error {
	for _, rel := range r.other {
		f, _, err := r.root.open(rel)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return readFault(r.root.path(rel), err)
		}
	}
	return nil
}

// ReadFile reads a file of a checkpoint directory whole, if it is a regular one inside the
// directory and has at most so many bytes. Errors are [ErrInvalid], and fs.ErrNotExist where
// there is none of that name.
func ReadFile(dir, rel string, most int64) ([]byte, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	data, err := d.readAll(rel, most)
	return data, errors.Join(err, d.Close())
}

// readAll reads a file whole.
func (d *directory) readAll(rel string, most int64) ([]byte, error) {
	f, size, err := d.open(rel)
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, errors.Join(&fault.Error{
			Err: ErrInvalid, Where: d.path(rel), Found: fmt.Sprintf("%d bytes", size),
			Wanted: fmt.Sprintf("at most %d", most), Hint: "the file is of another kind, or damaged: download it again",
		}, f.Close())
	}
	data := make([]byte, size)
	_, err = io.ReadFull(f, data)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, readFault(d.path(rel), err)
	}
	return data, nil
}
