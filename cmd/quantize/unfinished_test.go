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
	journal, err := e.openJournal(j.out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { e.closeJournal(journal, err) }()
	l, err := load(j.model)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	o, err := exportOptions(l.config, j.recipe)
	if err != nil {
		t.Fatal(err)
	}
	windows, err := e.begin(t.Context(), l, j, journal)
	if err != nil {
		t.Fatal(err)
	}
	end := errors.New("the end of the test's run")
	o.Finish = func(context.Context, *checkpoint.Reader) (map[string][]byte, error) { return nil, end }
	if _, err = e.work(t.Context(), l, j, windows, o); !errors.Is(err, end) {
		t.Fatalf("error %v, want %v", err, end)
	}
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
