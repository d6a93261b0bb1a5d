package captured

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/tensor"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	h := Header{Layers: 2, Tokens: 3, Heads: 2, KVHeads: 1, HeadDim: 4}
	layers := make([]Layer, h.Layers)
	for n := range layers {
		layers[n] = Layer{Q: tensor.NewMatrix(3, 8), K: tensor.NewMatrix(3, 4), V: tensor.NewMatrix(3, 4)}
		for i, m := range layers[n].matrices() {
			for at := range m.Data {
				m.Data[at] = float32(100*n+30*i+at) / 4
			}
		}
	}
	var file bytes.Buffer
	if err := Write(&file, h, layers); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(file.Bytes())
	gotHeader, got, err := Read(&file)
	if err != nil || gotHeader != h {
		t.Fatalf("header %+v, error %v", gotHeader, err)
	}
	if diff := cmp.Diff(layers, got); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if _, _, err := Read(bytes.NewReader(whole[:len(whole)-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short file: error %v", err)
	}
}
