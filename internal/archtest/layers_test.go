package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "quantize/"

// layers lists packages from the ground up. A package may import only packages
// in a lower row, its own sub-packages and internal.
var layers = [][]string{
	{"tensor", "recipe"},
	{"checkpoint"},
	{"model"},
	{"calibrate"},
	{"smoothing", "rope"},
	{"packer"},
	{"kernels"},
	{"eval"},
	{"cmd"},
}

// reserved names the only trees that may import a module, tests excepted.
var reserved = []struct {
	module string
	trees  []string
}{
	{"go.yaml.in/yaml/", []string{"recipe"}},
	{"github.com/google/jsonschema-go", []string{"recipe"}},
	{"github.com/spf13/cobra", []string{"cmd"}},
	{"github.com/vbauerster/mpb/", []string{"cmd"}},
	{"golang.org/x/term", []string{"cmd"}},
	{"github.com/dustin/go-humanize", []string{"cmd"}},
	{"github.com/nlpodyssey/safetensors", []string{"checkpoint"}},
	{"gorgonia.org/cu", []string{"kernels/cuda"}},
	{"github.com/mmcloughlin/avo", []string{"tensor/gen", "kernels/cpu/gen", "eval/gen", "packer/gen"}},
}

// testOnly may be imported by _test.go files alone.
var testOnly = []string{
	"pgregory.net/rapid", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "github.com/x448/float16", "testing",
}

func layer(top string) int {
	return slices.IndexFunc(layers, func(row []string) bool { return slices.Contains(row, top) })
}

func TestTreeFollowsTheRules(t *testing.T) {
	// The sources are parsed here and not by a 'go list' child, since go test
	// caches a result by the files that the test process itself opens.
	faults, files := check(os.DirFS(filepath.Join("..", "..")))
	for _, f := range faults {
		t.Error(f)
	}
	if files < 30 {
		t.Errorf("only %d files were read: is the root wrong?", files)
	}
}

// check parses the imports of every Go file below root and returns the broken
// rules and the number of files it read.
func check(root fs.FS) (faults []string, files int) {
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || path != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		checkFile(path, f.Imports, bad)
		return nil
	})
	if err != nil {
		bad("%v", err)
	}
	return faults, files
}

func checkFile(path string, imports []*ast.ImportSpec, bad func(string, ...any)) {
	top, _, _ := strings.Cut(path, "/")
	from := layer(top)
	if from < 0 && top != "internal" {
		bad("%s: package %q has no layer; add it to layers and docs/architecture.md", path, top)
	}
	isTest := strings.HasSuffix(path, "_test.go") || isTestSupport(path)
	for _, spec := range imports {
		imp, _ := strconv.Unquote(spec.Path.Value)
		if rest, ours := strings.CutPrefix(imp, module); ours {
			dep, _, _ := strings.Cut(rest, "/")
			if top == dep || dep == "internal" || isTest {
				continue
			}
			if to := layer(dep); from < 0 || to >= from {
				bad("%s (layer %d) imports %s (layer %d); imports must point down", path, from, dep, to)
			}
			continue
		}
		for _, r := range reserved {
			inside := func(tree string) bool { return strings.HasPrefix(path, tree+"/") }
			if matches(imp, r.module) && !slices.ContainsFunc(r.trees, inside) {
				bad("%s imports %s, which only %s may", path, imp, strings.Join(r.trees, ", "))
			}
		}
		for _, m := range testOnly {
			if matches(imp, m) && !isTest {
				bad("%s imports %s outside a test", path, imp)
			}
		}
	}
}

// isTestSupport names the packages that exist for tests: their files have no _test suffix.
func isTestSupport(path string) bool {
	for _, dir := range []string{"model/modeltest/", "kernels/kerneltest/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

func matches(imp, module string) bool {
	m := strings.TrimSuffix(module, "/")
	return imp == m || strings.HasPrefix(imp, m+"/")
}

// Each rule, broken on purpose, is reported; the neighbour that keeps it is not.
func TestBrokenRulesAreFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		path, imp string
		broken    bool
	}{
		{"checkpoint/a.go", "quantize/tensor", false},
		{"checkpoint/a.go", "quantize/model", true},
		{"checkpoint/a_test.go", "quantize/model", false},
		{"recipe/a.go", "quantize/tensor", true},
		{"smoothing/a.go", "quantize/rope", true},
		{"model/a.go", "quantize/model/tokenizer", false},
		{"model/a.go", "quantize/internal/fault", false},
		{"internal/fault/a.go", "quantize/tensor", true},
		{"internal/fault/a.go", "quantize/internal/atomicfile", false},
		{"cmd/quantize/a.go", "quantize/eval", false},
		{"helpers/a.go", "fmt", true},
		{"recipe/decode.go", "go.yaml.in/yaml/v4", false},
		{"eval/a.go", "go.yaml.in/yaml/v4", true},
		{"cmd/quantize/a.go", "github.com/spf13/cobra", false},
		{"eval/a.go", "github.com/spf13/cobra", true},
		{"kernels/cuda/a.go", "gorgonia.org/cu", false},
		{"kernels/cpu/a.go", "gorgonia.org/cu", true},
		{"tensor/gen/a.go", "github.com/mmcloughlin/avo/build", false},
		{"tensor/a.go", "github.com/mmcloughlin/avo/build", true},
		{"tensor/a.go", "testing", true},
		{"tensor/a.go", "testing/quick", true},
		{"tensor/a_test.go", "pgregory.net/rapid", false},
		{"model/modeltest/a.go", "testing", false},
	}
	for _, tc := range tests {
		src := "package x\nimport _ " + strconv.Quote(tc.imp) + "\n"
		faults, _ := check(fstest.MapFS{tc.path: {Data: []byte(src)}})
		if (len(faults) > 0) != tc.broken {
			t.Errorf("%s imports %s: faults %q, want broken=%v", tc.path, tc.imp, faults, tc.broken)
		}
	}
}
