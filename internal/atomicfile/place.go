package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Put writes data to what a user's path leads to: a regular file, or one that is not there
// yet, by [Write] at the end of all symbolic links, which stay; a pipe, a device or the
// standard output of this process by writing into it.
func Put(path string, data []byte) (err error) {
	target, into, err := place(path)
	if err != nil {
		return err
	}
	if !into {
		return Write(target, data)
	}
	f := stream(path)
	if f == nil {
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	_, err = f.Write(data)
	return err
}

// CanPut reports what would keep [Put] from writing to path, and leaves no trace. A pipe is
// not opened: its reader would see an end.
func CanPut(path string) error {
	target, into, err := place(path)
	if err != nil || into {
		return err
	}
	draft, err := NewDraft(target)
	if err != nil {
		return err
	}
	return draft.Abort()
}

// Same reports that two paths lead to one file or place for one, which the second [Put]
// would take from the first. What is written into, a pipe or a device, takes both.
func Same(a, b string) bool {
	one, ok := end(a)
	other, alsoOK := end(b)
	return ok && alsoOK && one == other
}

// end is the absolute path behind all links, if there is a file that Put would replace.
func end(path string) (string, bool) {
	target, into, err := place(path)
	if err != nil || into {
		return "", false
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(target))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	return filepath.Join(dir, filepath.Base(target)), err == nil
}

// place is the file at the end of the links, or says that path is written into. Names in
// /dev/fd lead to what is there but has no name, so what exists is asked first.
func place(path string) (target string, into bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		target, err = missing(path)
		return target, false, err
	case err != nil:
		return "", false, err
	case info.IsDir():
		return "", false, &os.PathError{Op: "create", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular() || stream(path) != nil:
		return "", true, nil
	}
	target, err = filepath.EvalSymlinks(path)
	return target, false, err
}

// maxLinks is that of Linux.
const maxLinks = 40

// missing follows links that end where nothing is yet.
func missing(path string) (string, error) {
	for range maxLinks {
		link, err := os.Readlink(path)
		if err != nil {
			return path, nil //nolint:nilerr // no link: the place itself
		}
		if !filepath.IsAbs(link) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path)) // .. in link is of the real one
			if err != nil {
				return "", err
			}
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return "", &os.PathError{Op: "readlink", Path: path, Err: syscall.ELOOP}
}

// stream is the standard output or error of this process if path leads there. A file opened
// once more would be written from its start, over what the process prints.
func stream(path string) *os.File {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if own, err := f.Stat(); err == nil && os.SameFile(info, own) {
			return f
		}
	}
	return nil
}
