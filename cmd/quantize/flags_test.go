package main

import (
	"io"
	"testing"
)

// Files have commas in their names: a flag of several takes one at a time.
func TestFilesAreNotSplitAtCommas(t *testing.T) {
	t.Parallel()
	found := 0
	for _, c := range newRootCommand(&env{out: io.Discard, err: io.Discard}).Commands() {
		for _, name := range []string{"text", "calib"} {
			f := c.Flags().Lookup(name)
			if f == nil || c.Name() == "inspect" { // that has one text
				continue
			}
			found++
			if f.Value.Type() != "stringArray" {
				t.Errorf("%s --%s is a %s", c.Name(), name, f.Value.Type())
			}
		}
	}
	if found != 4 {
		t.Errorf("%d flags, want those of run, eval, gate and convert", found)
	}
}
