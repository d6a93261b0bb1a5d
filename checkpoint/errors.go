package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"quantize/internal/atomicfile"
	"quantize/internal/fault"
	"quantize/tensor"
)

const (
	hintDownload = "the file is incomplete: download it again"
	hintIndex    = "the index belongs to other shards: download both again"
)

func tensorIn(name, file string) string { return "tensor " + quote(name) + " in " + file }

// quote makes a name from a file fit for a message: escaped, and cut when long.
func quote(s string) string {
	if len(s) > 200 {
		return strconv.Quote(s[:200]) + "..."
	}
	return strconv.Quote(s)
}

func knownDTypes() string {
	var names []string
	for d := tensor.Bool; d <= tensor.U64; d++ {
		names = append(names, d.String())
	}
	return strings.Join(names, " ")
}

// readFault describes an error of the file system while reading.
func readFault(file string, err error) error {
	f := &fault.Error{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Where: file}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.Found, f.Wanted, f.Hint = "the end of the file", "more data", "the file changed while it was read"
	case errors.Is(err, fs.ErrPermission):
		f.Hint = "make the file readable"
	}
	return f
}

// outputFault describes an error of the file system while writing path.
func outputFault(path string, err error) error {
	f := &fault.Error{Err: fmt.Errorf("%w: %w", ErrOutput, err), Where: path}
	switch {
	case errors.Is(err, atomicfile.ErrNotEmpty):
		f.Wanted, f.Hint = "a directory that is empty or does not exist yet", "name another output or remove this one"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.Hint = "free space on this disk or name an output on a larger one"
	case errors.Is(err, syscall.EFBIG):
		f.Hint = "raise the limit on the size of files (ulimit -f)"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		f.Hint = "make the directory writable or name another output"
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EXDEV):
		f.Hint = "a mount point cannot be replaced: name a new directory inside it"
	}
	return f
}
