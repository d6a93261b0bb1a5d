// Package fault is the shape of an error that a user can act on: what was
// found, what was wanted, where, and the way out (docs/architecture.md, law 5).
package fault

import (
	"errors"
	"io/fs"
	"strings"
)

// Error describes bad input or a failed operation.
//
// Err is the sentinel of the package that raised it (checkpoint.ErrInvalid,
// recipe.ErrInvalid, ...) or the wrapped cause; callers branch with errors.Is.
type Error struct {
	Err    error  // sentinel or cause
	Where  string // file, tensor, layer or flag
	Found  string // what was there
	Wanted string // what should have been there
	Hint   string // what the user can do
}

// Error joins the parts that are set: "where: cause: found X, wanted Y (hint)".
func (e *Error) Error() string {
	var b strings.Builder
	if e.Where != "" {
		b.WriteString(e.Where)
	}
	if e.Err != nil {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	if e.Found != "" {
		b.WriteString(": found ")
		b.WriteString(e.Found)
	}
	if e.Wanted != "" {
		b.WriteString(", wanted ")
		b.WriteString(e.Wanted)
	}
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteString(")")
	}
	return b.String()
}

// HintFile is the way out where a file cannot be read.
const HintFile = "check the path and who may read it"

// Cause is what the file system says of a file, without the path: the message names it.
func Cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

// Unwrap gives the sentinel or cause.
func (e *Error) Unwrap() error { return e.Err }
