package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"quantize/packer"
)

// Every line that cannot be understood has the code usage and the way to the help of
// the command it is about.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, where, found, wanted string }{
		{"gaet", "command line", `"gaet"`, "gate"},
		{"frobnicate", "command line", `"frobnicate"`, "demo"},
		{"recipe shwo", "recipe", `"shwo"`, "show"},
		{"kernels frobnicate", "kernels", `"frobnicate"`, "list or verify"},
		{"kernels verify a b", "kernels verify", "2 arguments", "none or OUT"},
		{"run m", "run", "no --out", "--out (output directory)"},
		{"convert out", "convert", "no --out, no --to", "--to (format: "},
		{"run", "run", "0 arguments", "MODEL"},
		{"demo here", "demo", "1 arguments", "none"},
		{"run m -o out --bits 4", "run", "", ""},
		{"plan m --recipe", "plan", "", ""},
	} {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), append([]string{"--output", "json"}, strings.Fields(c.line)...), &out, &errOut); code != exitFailed || out.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q", c.line, code, out.String())
		}
		var f struct{ Error failure }
		if err := json.Unmarshal(errOut.Bytes(), &f); err != nil {
			t.Fatalf("%s: %v: %s", c.line, err, errOut.String())
		}
		help := "quantize " + c.where + " --help"
		if c.where == "command line" {
			help = "quantize --help"
		}
		if e := f.Error; e.Code != "usage" || e.Where != c.where || e.Found != c.found || !strings.Contains(e.Wanted, c.wanted) || !strings.Contains(e.Hint, help) {
			t.Errorf("%s: %+v", c.line, e)
		}
	}
	// What is wrong with the line stays exit code 1, whatever it wraps.
	if code := exitCode(t.Context(), &usageError{packer.ErrOption}); code != exitFailed {
		t.Errorf("an option: exit %d", code)
	}
	if !errors.Is(&usageError{packer.ErrOption}, packer.ErrOption) {
		t.Error("a usage error hides its cause")
	}
}
