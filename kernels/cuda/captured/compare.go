package captured

import (
	"bytes"
	"math"
	"os"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// File names the environment variable that names a file of captured operands.
const File = "QUANTIZE_CAPTURED"

// Open reads the file of that name.
func Open(name string) (Header, []Layer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Header{}, nil, err
	}
	return Read(bytes.NewReader(data))
}

// attention is the causal attention of a layer.
func (h Header) attention() kernels.Attention {
	return kernels.Attention{
		Batch: 1, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Queries: h.Tokens, Keys: h.Tokens,
		Scale: float32(1 / math.Sqrt(float64(h.HeadDim))), Causal: true,
	}
}

// exact is the output of a layer, (Tokens, Heads·HeadDim), in float64.
func exact(h Header, l Layer) []float64 {
	o := make([]float64, h.Tokens*h.Heads*h.HeadDim)
	for n := range h.Tokens * h.Heads {
		ref.ExactAttention(o[n*h.HeadDim:(n+1)*h.HeadDim], l.Q, l.K, l.V, h.attention(), 0, n%h.Heads, n/h.Heads)
	}
	return o
}

// compare attends with a layer's operands in b and f, and gives the cosine similarity and
// the relative L1 distance of the output to the exact one.
func compare(b kernels.Attender, h Header, l Layer, f kernels.AttentionFormat, want []float64) (cosine, l1 float64, err error) {
	a := h.attention()
	a.Format = f
	o := tensor.NewMatrix(h.Tokens, h.Heads*h.HeadDim)
	if err := b.Attention(o, tensor.Matrix{}, l.Q, l.K, l.V, a); err != nil {
		return 0, 0, err
	}
	var product, square, wantSquare, off, size float64
	for i, w := range want {
		g := float64(o.Data[i])
		product, square, wantSquare = product+g*w, square+g*g, wantSquare+w*w
		off, size = off+math.Abs(g-w), size+math.Abs(w)
	}
	return product / math.Sqrt(square*wantSquare), off / size, nil
}
