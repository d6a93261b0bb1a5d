package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/internal/fault"
	"quantize/tensor"
)

// shardBytes makes a safetensors file of a header and data, right or wrong.
func shardBytes(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, data)...)
}

// makeDir writes files, and config.json if it is not among them.
func makeDir(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	if _, ok := files[configFile]; !ok {
		writeFile(t, dir, configFile, []byte("{}"))
	}
	for rel, data := range files {
		writeFile(t, dir, rel, data)
	}
	return dir
}

func writeFile(t testing.TB, dir, rel string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(rel))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// wantFault demands a typed error of that kind whose parts contain the texts.
func wantFault(t *testing.T, err, kind error, where, found, wanted string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || !errors.Is(err, kind) {
		t.Fatalf("got %v, want a fault of kind %q", err, kind)
	}
	if !strings.Contains(f.Where, where) || !strings.Contains(f.Found, found) || !strings.Contains(f.Wanted, wanted) {
		t.Errorf("got where %q, found %q, wanted %q\nmust contain   %q, %q, %q", f.Where, f.Found, f.Wanted, where, found, wanted)
	}
}

// snapshot is the content of every file under dir.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		got[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantEmpty demands that nothing at all is in dir.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

// sample has a tensor of every dtype, a scalar and an empty one.
func sample() []Info {
	infos := []Info{
		{"model.layers.10.w", tensor.BF16, []int{3, 5}},
		{"model.layers.2.w", tensor.BF16, []int{3, 5}},
		{"scalar", tensor.F32, []int{}},
		{"empty", tensor.I32, []int{0, 4}},
		{"a \"name\" <&> é", tensor.F64, []int{2}},
	}
	for d := tensor.Bool; d <= tensor.U64; d++ {
		infos = append(infos, Info{"dtype." + d.String(), d, []int{7, 2}})
	}
	return infos
}

// dataOf makes bytes that differ between tensors.
func dataOf(i Info) []byte {
	data := make([]byte, i.Bytes())
	for j := range data {
		data[j] = byte(j*7 + len(i.Name)*31 + int(i.Name[len(i.Name)-1]))
	}
	return data
}

// write makes a checkpoint of these tensors and returns its directory.
func write(t testing.TB, infos []Info, o WriterOptions) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	w, err := Create(out, infos, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	}()
	for _, i := range infos {
		if err := w.Add(i.Name, dataOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.File(configFile, []byte("{}\n")), w.Commit()); err != nil {
		t.Fatal(err)
	}
	return out
}

// wantTensors demands exactly these tensors with the bytes of dataOf.
func wantTensors(t *testing.T, r *Reader, infos []Info) {
	t.Helper()
	if len(r.Names()) != len(infos) {
		t.Errorf("got %d tensors, want %d", len(r.Names()), len(infos))
	}
	for _, want := range infos {
		got, err := r.Info(want.Name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		raw, err := r.Raw(want.Name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dataOf(want), raw) {
			t.Errorf("%s: other bytes", want.Name)
		}
	}
}
