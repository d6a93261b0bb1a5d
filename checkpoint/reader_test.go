package checkpoint

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/tensor"
)

func TestOpenReadsWhatOthersWrite(t *testing.T) {
	t.Parallel()
	// Data in another order than the header, spaces as padding, FP8, a scalar,
	// an empty tensor between two others, nothing but a name as metadata.
	header := `{"b":{"data_offsets":[8,12],"shape":[2,2],"dtype":"F8_E4M3"},"__metadata__":{"format":"np"},` +
		`"e":{"dtype":"I64","shape":[0],"data_offsets":[8,8]},"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]},` +
		`"c":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[12,13]}}   `
	file := shardBytes(header, 13)
	data := file[8+len(header):]
	binary.LittleEndian.PutUint64(data, math.Float64bits(0.5))
	copy(data[8:], []byte{0x38, 0xB8, 0x7E, 0x01, 0x7B})
	r := open(t, makeDir(t, map[string][]byte{singleFile: file, configFile: []byte(`{"model_type":"llama"}`)}))

	if diff := cmp.Diff([]string{"a", "b", "c", "e"}, r.Names()); diff != "" {
		t.Error(diff)
	}
	if got := string(r.ConfigJSON()); got != `{"model_type":"llama"}` {
		t.Errorf("config %q", got)
	}
	if diff := cmp.Diff([]Shard{{singleFile, int64(len(file)), map[string]string{"format": "np"}}}, r.Shards()); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]tensor.Matrix{
		"a": tensor.MatrixOf(1, 1, []float32{0.5}),
		"b": tensor.MatrixOf(2, 2, []float32{1, -1, 448, 0x1p-9}),
		"c": tensor.MatrixOf(1, 1, []float32{57344}),
	} {
		got, err := r.Matrix(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, want := range map[string]Info{
		"b": {"b", tensor.F8E4M3, []int{2, 2}}, "c": {"c", tensor.F8E5M2, []int{1}}, "e": {"e", tensor.I64, []int{0}},
	} {
		got, err := r.Info(name)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		got.Shape[0] = 99 // a copy
	}
	if i, _ := r.Info("b"); i.Shape[0] != 2 {
		t.Error("a caller can change the shape in the reader")
	}
	if r.Has("d") || !r.Has("e") {
		t.Error("Has is wrong")
	}
}

func TestRawUsesTheBuffer(t *testing.T) {
	t.Parallel()
	r := open(t, write(t, []Info{{"a", tensor.U8, []int{5}}, {"b", tensor.U8, []int{2}}}, WriterOptions{}))
	buf := make([]byte, 1, 5)
	a, err := r.Raw("a", buf)
	if err != nil || len(a) != 5 || &a[0] != &buf[0] {
		t.Errorf("got %d bytes, %v; the buffer was large enough", len(a), err)
	}
	b, err := r.Raw("b", make([]byte, 0, 1))
	if diff := cmp.Diff(dataOf(Info{"b", tensor.U8, []int{2}}), b); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// Each float dtype, in sizes on both sides of the chunk, reads as its scalar codec says.
func TestMatrixIsTheCodec(t *testing.T) {
	t.Parallel()
	const n = chunk/8 + 3 // more than one chunk of F64, F32 and so on by the item size
	for _, d := range []tensor.DType{tensor.F64, tensor.F32, tensor.F16, tensor.BF16, tensor.F8E4M3, tensor.F8E5M2} {
		rows := 8/d.Bytes() + 1
		want := tensor.NewMatrix(rows, n)
		for i := range want.Data {
			want.Data[i] = float32(i%97) / 8
		}
		data := make([]byte, len(want.Data)*d.Bytes())
		if err := tensor.Encode(data, want.Data, d); err != nil {
			t.Fatal(err)
		}
		if err := tensor.Decode(want.Data, data, d); err != nil { // rounded to d
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "out")
		w, err := Create(out, []Info{{"w", d, []int{rows, n}}}, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{w.Add("w", data), w.File(configFile, nil), w.Commit()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := open(t, out).Matrix("w")
		if err != nil || got.Rows != rows || got.Cols != n || !slices.Equal(want.Data, got.Data) {
			t.Errorf("%v: %dx%d, %v, or other values", d, got.Rows, got.Cols, err)
		}
	}
}

func TestFilesToCopy(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{singleFile: shardBytes(goodA, 8)}
	for _, rel := range []string{
		"tokenizer.json", "generation_config.json", "modeling_x.py", "additional_chat_templates/tool.jinja", "LICENSE", // copied
		".gitattributes", ".cache/x", "original/consolidated.00.pth", "pytorch_model.bin", "pytorch_model.bin.index.json",
		"quantize/manifest.json", "w4a16/config.json", "hf_quant_config.json", "onnx/model.onnx", "stray.safetensors",
	} {
		files[rel] = []byte(rel)
	}
	dir := makeDir(t, files)
	for link, target := range map[string]string{"tokenizer.model": "tokenizer.json", "leaves": "/etc/passwd", "folder": "onnx"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir)
	want := []string{"LICENSE", "additional_chat_templates/tool.jinja", "generation_config.json", "leaves", "modeling_x.py", "tokenizer.json", "tokenizer.model"}
	if diff := cmp.Diff(want, r.Files()); diff != "" {
		t.Error(diff)
	}
	w, err := Create(filepath.Join(t.TempDir(), "out"), []Info{{"a", tensor.U8, nil}}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.CopyFile(r, "leaves")
	wantFault(t, err, ErrInvalid, "leaves", "a symbolic link that leaves", "inside")
	_, err = w.CopyFile(r, "../x")
	wantFault(t, err, ErrInvalid, `"../x"`, "not plain", "inside")
	if _, err := w.CopyFile(r, "tokenizer.model"); err != nil {
		t.Error(err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
}

// A snapshot of the Hugging Face cache is made of links into its blobs.
func TestOpenReadsTheHubCache(t *testing.T) {
	t.Parallel()
	repo := makeDir(t, map[string][]byte{"blobs/0123": shardBytes(goodA, 8), "blobs/4567": []byte("{}"), "blobs/89ab": []byte("words")})
	snapshot := filepath.Join(repo, "snapshots", "main")
	if err := os.MkdirAll(snapshot, 0o777); err != nil {
		t.Fatal(err)
	}
	for link, blob := range map[string]string{singleFile: "0123", configFile: "4567", "tokenizer.json": "89ab"} {
		if err := os.Symlink("../../blobs/"+blob, filepath.Join(snapshot, link)); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, snapshot)
	if diff := cmp.Diff([]string{"tokenizer.json"}, r.Files()); diff != "" || !r.Has("a") {
		t.Error(diff, r.Names())
	}
}

func BenchmarkMatrixBF16(b *testing.B) {
	const n = 16 << 20
	out := filepath.Join(b.TempDir(), "big")
	w, err := Create(out, []Info{{"w", tensor.BF16, []int{n / 4096, 4096}}}, WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, err := range []error{w.Add("w", make([]byte, 2*n)), w.File(configFile, nil), w.Commit()} {
		if err != nil {
			b.Fatal(err)
		}
	}
	r := open(b, out)
	b.SetBytes(2 * n)
	for b.Loop() {
		if _, err := r.Matrix("w"); err != nil {
			b.Fatal(err)
		}
	}
}
