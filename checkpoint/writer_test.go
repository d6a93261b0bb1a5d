package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nlpodyssey/safetensors"

	"quantize/tensor"
)

func TestWriteAndReadBack(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{0, 100, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			wantTensors(t, open(t, write(t, sample(), WriterOptions{ShardBytes: limit})), sample())
		})
	}
}

// What is written can be read before it is committed, when it is whole; it is not at
// its place yet, and having been read does not show in the bytes.
func TestWrittenBeforeCommit(t *testing.T) {
	t.Parallel()
	infos, out := sample(), filepath.Join(t.TempDir(), "out")
	w, err := Create(out, infos, WriterOptions{ShardBytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Abort() }() // nothing after Commit
	for _, i := range infos {
		if _, err := w.Written(); !errors.Is(err, ErrInvalid) {
			t.Fatalf("without %s: %v", i.Name, err)
		}
		if err := w.Add(i.Name, dataOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.File(configFile, []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := w.Written()
		if err != nil {
			t.Fatal(err)
		}
		wantTensors(t, r, infos)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the output is there before Commit: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(snapshot(t, write(t, infos, WriterOptions{ShardBytes: 100})), snapshot(t, out)); diff != "" {
		t.Error(diff)
	}
}

// The bytes of a small file, as formats of others have it: header with spaces to
// a multiple of 8, metadata first, larger items first, then names.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	out := write(t, []Info{{"z", tensor.BF16, []int{1, 2}}, {"b2", tensor.F8E4M3, []int{3}}, {"a.weight_shape", tensor.I64, []int{2}}}, WriterOptions{})
	header := `{"__metadata__":{"format":"pt"},"a.weight_shape":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},` +
		`"z":{"dtype":"BF16","shape":[1,2],"data_offsets":[16,20]},"b2":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[20,23]}}       `
	want := shardBytes(header, 0)
	for _, i := range []Info{{"a.weight_shape", tensor.I64, []int{2}}, {"z", tensor.BF16, []int{1, 2}}, {"b2", tensor.F8E4M3, []int{3}}} {
		want = append(want, dataOf(i)...)
	}
	got := snapshot(t, out)
	if diff := cmp.Diff(map[string]string{
		configFile: "{}\n", singleFile: string(want),
		indexFile: `{
  "metadata": {
    "total_size": 23
  },
  "weight_map": {
    "a.weight_shape": "model.safetensors",
    "b2": "model.safetensors",
    "z": "model.safetensors"
  }
}
`,
	}, got); diff != "" {
		t.Error(diff)
	}
	if len(header)%8 != 0 {
		t.Errorf("header of %d bytes", len(header))
	}
	// formats.md 15.8
	var p planned
	p.layOut([]Info{{"a.weight_shape", tensor.I64, []int{2}}}, map[string]string{"format": "pt"})
	if want := `{"__metadata__":{"format":"pt"},"a.weight_shape":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}`; string(bytes.TrimRight(p.head[8:], " ")) != want || len(p.head)%8 != 0 {
		t.Errorf("got %q", p.head[8:])
	}
}

// The library reads the whole file that we wrote, its own checks included.
func TestTheLibraryReadsOurShards(t *testing.T) {
	t.Parallel()
	infos := slices.DeleteFunc(sample(), func(i Info) bool { return i.DType == tensor.F8E4M3 || i.DType == tensor.F8E5M2 })
	file, err := os.ReadFile(filepath.Join(write(t, infos, WriterOptions{}), singleFile))
	if err != nil {
		t.Fatal(err)
	}
	st, err := safetensors.Deserialize(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if v, ok := st.Tensor(i.Name); !ok || !bytes.Equal(v.Data(), dataOf(i)) {
			t.Errorf("%s: found %v, or other bytes", i.Name, ok)
		}
	}
	if st.Len() != len(infos) {
		t.Errorf("%d tensors, want %d", st.Len(), len(infos))
	}
}

// The order in which tensors are declared and added, and by how many
// goroutines, does not show in the bytes.
func TestSameBytesInAnyOrder(t *testing.T) {
	t.Parallel()
	want := snapshot(t, write(t, sample(), WriterOptions{ShardBytes: 100, Metadata: map[string]string{"b": "1", "a": "2"}}))
	infos := sample()
	slices.Reverse(infos)
	out := filepath.Join(t.TempDir(), "out")
	w, err := Create(out, infos, WriterOptions{ShardBytes: 100, Metadata: map[string]string{"a": "2", "b": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, i := range infos {
		wg.Go(func() {
			if err := w.Add(i.Name, dataOf(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if err := w.File(configFile, []byte("{}\n")); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, snapshot(t, out)); diff != "" {
		t.Error(diff)
	}
}

// Layers in the order of their numbers, shards up to the limit, a large tensor alone.
func TestShardsKeepLayersTogether(t *testing.T) {
	t.Parallel()
	u8 := func(name string, n int) Info { return Info{name, tensor.U8, []int{n}} }
	shards, err := plan([]Info{u8("layers.10.b", 4), u8("layers.2.b", 4), u8("layers.2.a", 4), u8("layers.9.a", 20), u8("layers.10.a", 4), u8("layers.10.c", 4), u8("zero", 0)}, 12, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, s := range shards {
		names := []string{s.file}
		for _, t := range s.tensors {
			names = append(names, t.Name)
		}
		got = append(got, names)
	}
	if diff := cmp.Diff([][]string{
		{"model-00001-of-00003.safetensors", "layers.2.a", "layers.2.b"},
		{"model-00002-of-00003.safetensors", "layers.9.a"},
		{"model-00003-of-00003.safetensors", "layers.10.a", "layers.10.b", "layers.10.c", "zero"},
	}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNaturalOrder(t *testing.T) {
	t.Parallel()
	want := []string{"", "a", "a.1", "a.01.x", "a.2.w", "a.10.a", "a.10.b", "a.999999999999999999999999", "a.b", "b"}
	for i, a := range want {
		for j, b := range want {
			if got := compareNatural(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%q and %q compare as %d", a, b, got)
			}
		}
	}
}

func TestCopyIsUnchanged(t *testing.T) {
	t.Parallel()
	infos := append(sample(), Info{"large", tensor.U8, []int{2*chunk + 1}})
	src := write(t, infos, WriterOptions{ShardBytes: 100})
	writeFile(t, src, "tokenizer/merges.txt", []byte("a b\r\n"))
	before := snapshot(t, src)
	r := open(t, src)
	out := filepath.Join(t.TempDir(), "out")
	w, err := Create(out, infos, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if err := w.Copy(r, i.Name); err != nil {
			t.Fatal(err)
		}
	}
	copied := map[string]string{}
	for _, rel := range append(r.Files(), configFile) {
		if copied[rel], err = w.CopyFile(r, rel); err != nil {
			t.Fatal(err)
		}
	}
	sums := w.Hashes()
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	wantTensors(t, open(t, out), infos)
	if got := snapshot(t, out)["tokenizer/merges.txt"]; got != "a b\r\n" {
		t.Errorf("copied file is %q", got)
	}
	for rel, got := range copied {
		if sum := sha256.Sum256([]byte(snapshot(t, out)[rel])); got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: hash %q", rel, got)
		}
	}
	if diff := cmp.Diff(before, snapshot(t, src)); diff != "" {
		t.Error("the source changed: ", diff)
	}
	for _, i := range infos {
		if sum := sha256.Sum256(dataOf(i)); sums[i.Name] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: hash %q", i.Name, sums[i.Name])
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	out := filepath.Join(parent, "out")
	a, b := Info{"a", tensor.U8, []int{4}}, Info{"b", tensor.U8, []int{4}}
	for name, infos := range map[string][]Info{
		"no tensors": nil, "name twice": {a, b, a}, "no name": {{"", tensor.U8, nil}}, "the key of the metadata": {{metadataKey, tensor.U8, nil}},
		"no dtype": {{"a", tensor.Unset, nil}}, "negative dimension": {{"a", tensor.U8, []int{-1}}}, "too large": {{"a", tensor.U8, []int{1 << 40, 1 << 40}}},
	} {
		if _, err := Create(out, infos, WriterOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Create(out, []Info{a}, WriterOptions{ShardBytes: -1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("negative shard size: got %v", err)
	}
	wantEmpty(t, parent)

	r := open(t, write(t, []Info{{"a", tensor.I8, []int{4}}, {"b", tensor.U8, []int{2, 2}}, {"c", tensor.U8, nil}}, WriterOptions{}))
	w, err := Create(out, []Info{a, b}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, w.Commit(), ErrInvalid, out, `2 of 2 tensors not written: "a", "b"`, "all")
	wantFault(t, w.Add("a", make([]byte, 3)), ErrInvalid, `"a"`, "3 bytes", "4 for U8 [4]")
	wantFault(t, w.Add("c", nil), ErrInvalid, `"c"`, "a name that the header lacks", "planned")
	wantFault(t, w.Copy(r, "a"), ErrInvalid, `"a"`, "I8 [4]", "U8 [4]")
	wantFault(t, w.Copy(r, "b"), ErrInvalid, `"b"`, "U8 [2 2]", "U8 [4]")
	wantFault(t, w.Copy(r, "c"), ErrInvalid, `"c"`, "a name that the header lacks", "planned")
	wantFault(t, w.Copy(r, "d"), ErrInvalid, `"d"`, "no such tensor", "")
	if err := w.Add("a", make([]byte, 4)); err != nil {
		t.Errorf("a wrong Add spoils the right one: %v", err)
	}
	wantFault(t, w.Add("a", make([]byte, 4)), ErrInvalid, `"a"`, "twice", "once")
	wantFault(t, w.Commit(), ErrInvalid, out, `1 of 2 tensors not written: "b"`, "all")
	for _, rel := range []string{"", ".", "/x", "../x", "a/../../x", "x/"} {
		wantFault(t, w.File(rel, nil), ErrInvalid, "file", "not plain and relative", "config.json")
	}
	for _, rel := range []string{singleFile, "other.safetensors", indexFile} {
		wantFault(t, w.File(rel, nil), ErrInvalid, rel, "a name in use", "")
	}
	if err := errors.Join(w.File("quantize/attention.safetensors", nil), w.File("w4a16/config.json", nil), w.File(configFile, nil)); err != nil {
		t.Error(err)
	}
	wantFault(t, w.File(configFile, nil), ErrInvalid, configFile, "a name in use", "once")
	if err := w.Add("b", make([]byte, 4)); err != nil {
		t.Error(err)
	}
	if err := w.Commit(); err != nil {
		t.Errorf("Commit after the missing tensor came: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{"Commit": w.Commit(), "Add": w.Add("a", nil), "File": w.File("x", nil)} {
		if !errors.Is(err, ErrOutput) || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Commit: %v", name, err)
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, open(t, out).Names()); diff != "" {
		t.Error(diff)
	}

	before := snapshot(t, out)
	_, err = Create(out, []Info{a}, WriterOptions{})
	wantFault(t, err, ErrOutput, out, "", "empty")
	if diff := cmp.Diff(before, snapshot(t, out)); diff != "" {
		t.Error("a refused output changed: ", diff)
	}
}
