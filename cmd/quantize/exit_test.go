package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/eval"
	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/packer"
	"quantize/recipe"
)

func TestExitCodeOfEachSentinel(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		err  error
		exit int
		code string
	}{
		{"anything else", t.Context(), errors.New("x"), 1, "failed"},
		{"usage", t.Context(), &usageError{errors.New("x")}, 1, "usage"},
		{"output", t.Context(), checkpoint.ErrOutput, 1, "output"},
		{"text", t.Context(), eval.ErrInput, 1, "failed"},
		{"calibration", t.Context(), calibrate.ErrInvalid, 1, "calibration"},
		{"recipe", t.Context(), recipe.ErrInvalid, 10, "recipe_invalid"},
		{"budget file", t.Context(), recipe.ErrGate, 10, "recipe_invalid"},
		{"gate", t.Context(), errGate, 3, "gate_failed"},
		{"option of a recipe", t.Context(), packer.ErrOption, 10, "recipe_invalid"},
		{"checkpoint", t.Context(), checkpoint.ErrInvalid, 11, "checkpoint_invalid"},
		{"quantized checkpoint", t.Context(), packer.ErrInvalid, 11, "checkpoint_invalid"},
		{"verification", t.Context(), errVerify, 11, "checkpoint_invalid"},
		{"kernel", t.Context(), kernels.ErrUnsupported, 12, "device_unavailable"},
		{"instruction set", t.Context(), cpu.ErrISA, 12, "device_unavailable"},
		{"interrupted", cancelled, context.Canceled, 130, "interrupted"},
		{"an error that was there before the interrupt", cancelled, checkpoint.ErrInvalid, 11, "checkpoint_invalid"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("layer 3: %w", &fault.Error{Err: tc.err, Where: "w", Found: "f", Wanted: "n", Hint: "h"})
			var out, errOut bytes.Buffer
			e := &env{out: &out, err: &errOut, output: outputJSON}
			if got := e.fail(tc.ctx, err); got != tc.exit {
				t.Errorf("exit %d, want %d", got, tc.exit)
			}
			var object map[string]failure
			if err := json.Unmarshal(errOut.Bytes(), &object); err != nil {
				t.Fatalf("%v: %s", err, errOut.Bytes())
			}
			f := object["error"]
			if f.Code != tc.code || f.Exit != tc.exit || f.Message == "" {
				t.Errorf("%+v", f)
			}
			if tc.exit != exitInterrupted && (f.Where != "w" || f.Found != "f" || f.Wanted != "n" || f.Hint != "h") {
				t.Errorf("parts of the fault are lost: %+v", f)
			}
			if out.Len() > 0 {
				t.Errorf("an error wrote %q to stdout", out.String())
			}
		})
	}
}

// The table of docs/exit-codes.md, the constants and every command's help agree.
func TestExitCodesAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "exit-codes.md"))
	if err != nil {
		t.Fatal(err)
	}
	var table []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(doc), -1) {
		table = append(table, m[1])
	}
	if want := []string{"0", "1", "2", "3", "10", "11", "12", "130"}; !slices.Equal(table, want) {
		t.Errorf("the table has %v, want %v", table, want)
	}
	var help []string
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) `).FindAllStringSubmatch(exitStatus, -1) {
		help = append(help, m[1])
	}
	var want []string
	for _, code := range []int{0, exitFailed, exitGate, exitRecipe, exitCheckpoint, exitDevice, exitInterrupted} {
		want = append(want, fmt.Sprint(code))
	}
	if !slices.Equal(help, want) {
		t.Errorf("the help has %v, the constants are %v", help, want)
	}
	for _, c := range newRootCommand(&env{}).Commands() {
		if !strings.Contains(c.Long, "EXIT STATUS") {
			t.Errorf("%s does not tell its exit codes", c.Name())
		}
		if c.Short == "" || strings.TrimSuffix(c.Long, exitStatus) == "" {
			t.Errorf("%s lacks a description", c.Name())
		}
	}
}

// A cancelled run gives 130 and leaves neither output nor a temporary directory.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	if code := run(ctx, []string{"run", filepath.Join(dir, "base"), "-o", filepath.Join(dir, "out")}, &out, &errOut); code != exitInterrupted {
		t.Errorf("exit %d: %s", code, errOut.String())
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("found %v, want %v", after, before)
	}
}

// fullWriter is a full disk behind stdout.
type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A result that does not arrive is a failure in either form.
func TestResultNotWritten(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"recipe", "list"}, {"recipe", "show", "rtn"}, {"recipe", "schema"}, {"kernels", "list"}} {
		for _, form := range []string{"text", "json"} {
			var errOut bytes.Buffer
			code := run(t.Context(), append(args, "--output", form), fullWriter{}, &errOut)
			if code != exitFailed || !strings.Contains(errOut.String(), "standard output") || !strings.Contains(errOut.String(), "no space left") {
				t.Errorf("%v as %s: exit %d: %s", args, form, code, errOut.String())
			}
		}
	}
}

// What only reads ends as well.
func TestInterruptedReaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, out, gptq := filepath.Join(dir, "m"), filepath.Join(dir, "out"), filepath.Join(dir, "gptq")
	writeTiny(t, base, 1)
	for _, args := range [][]string{{"run", base, "-o", out, "--scheme", "W4A16"}, {"convert", out, "--to", "gptq", "-o", gptq}} {
		var errOut bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &errOut); code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, errOut.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	page := filepath.Join(dir, "page.html")
	for _, args := range [][]string{{"verify", out}, {"verify", out, "--base", base}, {"verify", gptq}, {"inspect", base}, {"inspect", out, "--html", page}} {
		var stdout, errOut bytes.Buffer
		if code := run(ctx, args, &stdout, &errOut); code != exitInterrupted || stdout.Len() > 0 {
			t.Errorf("%v: exit %d: %s%s", args, code, stdout.String(), errOut.String())
		}
	}
	if _, err := os.Stat(page); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a page of an interrupted command: %v", err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
