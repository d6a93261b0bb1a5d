package cuda

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The embedded cubins were made from the sources in the tree. Whether the
// compiler still makes these bytes of them, `mkcubin -check` says.
func TestManifestMatchesTheTree(t *testing.T) {
	t.Parallel()
	m := BuiltKernels()
	sources, err := HashSources(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.Sources, sources); diff != "" {
		t.Errorf("sources changed since `make kernels` (-manifest +tree):\n%s", diff)
	}
	files, err := filepath.Glob(filepath.Join("cubin", "*.cubin"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(m.Cubins) {
		t.Errorf("%d cubins, %d in the manifest", len(files), len(m.Cubins))
	}
	for _, c := range m.Cubins {
		data, err := os.ReadFile(filepath.Join("cubin", c.File))
		if err != nil {
			t.Error(err)
		} else if got := Hash(data); got != c.SHA256 {
			t.Errorf("%s has hash %s, the manifest %s", c.File, got, c.SHA256)
		}
	}
}

// A changed byte of a source is noticed.
func TestChangedSourceIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "src"), os.DirFS("src")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "src", "ptx.cuh")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, ' '), 0o644); err != nil {
		t.Fatal(err)
	}
	changed, err := HashSources(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Equal(changed, BuiltKernels().Sources) {
		t.Error("a changed source has the manifest's hashes")
	}
}
