//go:build cuda

package cuda

import (
	"fmt"
	"slices"

	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// Backend computes on the card with operands in host memory: every Forward
// copies there and back. INT4 weights with FP8 activations in groups of 128 or 64
// go through the tensor cores (K1 to K4), all else through the plain kernels of
// reference.cu.
//
// Forward has no way to return an error: a failing card panics with it.
type Backend struct{ device *Device }

var _ kernels.Backend = (*Backend)(nil)

// NewBackend returns the backend of d.
func NewBackend(d *Device) *Backend { return &Backend{device: d} }

// Linear copies weight (N, K) and bias (N, or nil) to the card.
func (b *Backend) Linear(weight tensor.Matrix, bias []float32) model.Linear {
	if bias != nil && len(bias) != weight.Rows {
		panic("cuda: bias length is not N")
	}
	l := &plainLinear{device: b.device, n: weight.Rows, k: weight.Cols}
	must(b.device.Run(func(s *Session) (err error) {
		if l.weight, err = AllocOf(s, contiguous(weight)); err != nil {
			return err
		}
		if bias != nil {
			l.bias, err = AllocOf(s, bias)
		}
		return err
	}))
	return l
}

// QuantLinear implements [kernels.Backend].
func (b *Backend) QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	a, err := kernels.CheckWeight(w, a, bias)
	if err != nil {
		return nil, err
	}
	if w, ok := w.(*packer.Int4Weight); ok && fast(w, a) {
		l := &int4Linear{device: b.device}
		return l, b.device.Run(func(s *Session) (err error) {
			l.weight, err = s.PackOnDevice(w, a, bias)
			return err
		})
	}
	return b.plain(w, a, bias)
}

// fast says whether the tensor-core kernels take w.
func fast(w *packer.Int4Weight, a packer.Arithmetic) bool {
	return a != packer.WeightOnly && Supported(w) == nil && w.K <= maxQuantizeK
}

// Int4Error implements kerneltest.Coarse. The tensor core adds 32 products and the
// sum so far at a time, each aligned to the largest and cut after 13 fraction bits:
// 33 terms a wgmma, over a group, or over all of K in the table arithmetic. What
// is stored is BF16.
func (b *Backend) Int4Error(w *packer.Int4Weight, a packer.Arithmetic) (sum, store float64) {
	if !fast(w, a) {
		return 0, 0
	}
	wgmmas := 4
	if a == packer.LUT {
		wgmmas = ceilDiv(w.K, 32)
	}
	return float64(33*wgmmas) * 0x1p-13, 0x1p-8
}

// plain expands w to FP32 and keeps row factors apart, as kernels/ref does.
func (b *Backend) plain(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	n, k := w.Shape()
	values := tensor.NewMatrix(n, k)
	l := &plainLinear{device: b.device, n: n, k: k, token: a != packer.WeightOnly}
	var rows []float32
	switch w := w.(type) {
	case *packer.Int4Weight:
		if a == packer.WeightOnly {
			w.Decode(values, a)
			break
		}
		chans, s8 := w.Split()
		unscaled := make([]float32, n*k)
		for i := range unscaled {
			eighth := tensor.E4M3Value(eighthsOf(s8[i/w.GroupSize : i/w.GroupSize+1])[0])
			v := float32(code(w, i/k, i%k)) * eighth
			if a == packer.LUT {
				v = tensor.RoundE4M3(v)
			}
			unscaled[i] = 8 * v
		}
		values.Data, rows = unscaled, chans
	case *packer.FP8Weight:
		for i, c := range w.Codes {
			values.Data[i] = tensor.E4M3Value(c)
		}
		rows = w.Scales
	}
	return l, b.device.Run(func(s *Session) (err error) {
		if l.weight, err = AllocOf(s, values.Data); err != nil {
			return err
		}
		if rows != nil {
			if l.row, err = AllocOf(s, rows); err != nil {
				return err
			}
		}
		if bias != nil {
			l.bias, err = AllocOf(s, bias)
		}
		return err
	})
}

// int4Linear multiplies on the tensor cores.
type int4Linear struct {
	device *Device
	weight *Weight
}

func (l *int4Linear) Shape() (n, k int) { return l.weight.N, l.weight.K }

func (l *int4Linear) Forward(dst, x tensor.Matrix) {
	n, k := l.Shape()
	checkForward(dst, x, n, k)
	if x.Rows == 0 {
		return
	}
	y := make([]uint16, x.Rows*n)
	must(l.device.Run(func(s *Session) error {
		a, err := s.NewActivations(x.Rows, k)
		if err != nil {
			return err
		}
		defer func() { _ = a.Free(s) }()
		in, err := AllocOf(s, contiguous(x))
		if err != nil {
			return err
		}
		defer func() { _ = s.Free(in) }()
		if err := s.Quantize(a, Inputs{X: in, Before: Nothing}, false); err != nil {
			return err
		}
		out, err := s.Alloc(2 * len(y))
		if err != nil {
			return err
		}
		defer func() { _ = s.Free(out) }()
		if err := s.Multiply(out, l.weight, a, Dispatch(x.Rows, n, k, l.weight.Arithmetic()), true); err != nil {
			return err
		}
		return Download(s, y, out)
	}))
	for m := range x.Rows {
		for i, v := range y[m*n : (m+1)*n] {
			dst.Row(m)[i] = tensor.BF16Value(v)
		}
	}
}

// plainLinear multiplies in FP32.
type plainLinear struct {
	device            *Device
	n, k              int
	token             bool // activations are rounded per token
	weight, row, bias Memory
}

func (l *plainLinear) Shape() (n, k int) { return l.n, l.k }

// productArgument and roundArgument are structs Product and Round of reference.cu.
type (
	productArgument struct {
		X, W, Row, Token, Bias, Y uint64
		M, N, K                   int32
	}
	roundArgument struct {
		X, Token uint64
		M, K     int32
	}
)

func (l *plainLinear) Forward(dst, x tensor.Matrix) {
	checkForward(dst, x, l.n, l.k)
	if x.Rows == 0 {
		return
	}
	where := fmt.Sprintf("M %d, N %d, K %d", x.Rows, l.n, l.k)
	y := make([]float32, x.Rows*l.n)
	must(l.device.Run(func(s *Session) error {
		in, err := AllocOf(s, contiguous(x))
		if err != nil {
			return err
		}
		defer func() { _ = s.Free(in) }()
		out, err := s.Alloc(4 * len(y))
		if err != nil {
			return err
		}
		defer func() { _ = s.Free(out) }()
		p := &productArgument{
			X: in.Address, W: l.weight.Address, Row: l.row.Address, Bias: l.bias.Address, Y: out.Address,
			M: int32(x.Rows), N: int32(l.n), K: int32(l.k),
		}
		if l.token {
			token, err := s.Alloc(4 * x.Rows)
			if err != nil {
				return err
			}
			defer func() { _ = s.Free(token) }()
			p.Token = token.Address
			r := &roundArgument{X: in.Address, Token: token.Address, M: int32(x.Rows), K: int32(l.k)}
			if err := launch(s, "reference_round", Launch{Grid: Dim{X: x.Rows}, Threads: 256}, r, where); err != nil {
				return err
			}
		}
		l := Launch{Grid: Dim{X: ceilDiv(l.n, 16), Y: ceilDiv(x.Rows, 16)}, Threads: 256}
		if err := launch(s, "reference_f32", l, p, where); err != nil {
			return err
		}
		return Download(s, y, out)
	}))
	for m := range x.Rows {
		copy(dst.Row(m), y[m*l.n:(m+1)*l.n])
	}
}

// attendArgument is struct Attend of reference.cu.
type attendArgument struct {
	Q, K, V, Y, Scores           uint64
	M, Heads, KVHeads, D, Window int32
	Scale                        float32
}

// Attend implements model.Compute with a plain kernel: FP32, one block a query
// and head, scores in the card's memory.
func (b *Backend) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	nq, nkv := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
	if a.KVHeads < 1 || a.Heads%a.KVHeads != 0 || q.Cols != nq || dst.Cols != nq || k.Cols != nkv || v.Cols != nkv ||
		dst.Rows != q.Rows || k.Rows != q.Rows || v.Rows != q.Rows {
		panic("cuda: q, k, v and dst shapes do not fit the attention")
	}
	if q.Rows == 0 {
		return
	}
	y := make([]float32, q.Rows*nq)
	must(b.device.Run(func(s *Session) error {
		p := &attendArgument{M: int32(q.Rows), Heads: int32(a.Heads), KVHeads: int32(a.KVHeads), D: int32(a.HeadDim), Window: int32(a.Window), Scale: a.Scale}
		for x, to := range map[*tensor.Matrix]*uint64{&q: &p.Q, &k: &p.K, &v: &p.V} {
			m, err := AllocOf(s, contiguous(*x))
			if err != nil {
				return err
			}
			defer func() { _ = s.Free(m) }()
			*to = m.Address
		}
		out, err := s.Alloc(4 * len(y))
		if err != nil {
			return err
		}
		defer func() { _ = s.Free(out) }()
		scores, err := s.Alloc(4 * a.Heads * q.Rows * q.Rows)
		if err != nil {
			return err
		}
		defer func() { _ = s.Free(scores) }()
		p.Y, p.Scores = out.Address, scores.Address
		l := Launch{Grid: Dim{X: q.Rows, Y: a.Heads}, Threads: 128}
		if err := launch(s, "reference_attend", l, p, fmt.Sprintf("%d tokens, %d heads of %d", q.Rows, a.Heads, a.HeadDim)); err != nil {
			return err
		}
		return Download(s, y, out)
	}))
	for m := range q.Rows {
		copy(dst.Row(m), y[m*nq:(m+1)*nq])
	}
}

// contiguous is x without gaps between its rows.
func contiguous(x tensor.Matrix) []float32 {
	if x.Stride == x.Cols {
		return slices.Clone(x.Data)
	}
	data := make([]float32, 0, x.Rows*x.Cols)
	for i := range x.Rows {
		data = append(data, x.Row(i)...)
	}
	return data
}

func checkForward(dst, x tensor.Matrix, n, k int) {
	if x.Cols != k {
		panic("cuda: x is not (M, K)")
	}
	if dst.Rows != x.Rows || dst.Cols != n {
		panic("cuda: dst is not (M, N)")
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
