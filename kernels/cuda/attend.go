//go:build cuda

package cuda

import (
	"errors"
	"math"

	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

var _ kernels.Attender = (*Backend)(nil)

// Attention implements [kernels.Attender] with operands in host memory: what
// [Session.NewPrefill] supports, and INT4 caches without a mask ([Session.AttendCached]), in BF16. Operands are rounded to BF16 on their way to the
// card and must be finite; outputs are BF16 numbers.
func (b *Backend) Attention(dst, lse, q, k, v tensor.Matrix, a kernels.Attention) error {
	if err := a.Check(dst, lse, q, k, v); err != nil {
		return err
	}
	attend := (*Session).attention
	if a.Format.KV.Format == packer.KVInt4 && a.Mask == nil && NewKVLayout(a.Format.KV, a.HeadDim).valid() {
		attend = (*Session).cachedAttention
	} else if err := supportedAttention(a); err != nil {
		return err
	}
	o, logs := make([]uint16, dst.Rows*dst.Cols), make([]float32, lse.Rows*lse.Cols)
	err := b.device.Run(func(s *Session) error { return attend(s, o, logs, bf16Of(q), bf16Of(k), bf16Of(v), a) })
	if err != nil {
		return err
	}
	for i := range dst.Rows {
		for c, bits := range o[i*dst.Cols : (i+1)*dst.Cols] {
			dst.Row(i)[c] = tensor.BF16Value(bits)
		}
		if lse.Cols > 0 {
			copy(lse.Row(i), logs[i*lse.Cols:(i+1)*lse.Cols])
		}
	}
	return nil
}

// attention copies BF16 operands to the card and o and lse back; an empty lse is not wanted.
func (s *Session) attention(o []uint16, lse []float32, q, k, v []uint16, a kernels.Attention) (err error) {
	p, err := s.NewPrefill(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Free(s)) }()
	var m [5]Memory // q, k, v, o, lse
	defer func() {
		for _, x := range m {
			err = errors.Join(err, s.Free(x))
		}
	}()
	for i, x := range [][]uint16{q, k, v} {
		if m[i], err = AllocOf(s, x); err != nil {
			return err
		}
	}
	if m[3], err = s.Alloc(2 * len(o)); err != nil {
		return err
	}
	if len(lse) > 0 {
		if m[4], err = s.Alloc(4 * len(lse)); err != nil {
			return err
		}
	}
	if err := s.RoundKeys(p, m[1], m[2], false); err != nil {
		return err
	}
	if err := s.AttendPrefill(p, m[3], m[4], m[0], true); err != nil {
		return err
	}
	return errors.Join(Download(s, o, m[3]), Download(s, lse, m[4]))
}

// bf16Of is x in BF16, without gaps between its rows.
func bf16Of(x tensor.Matrix) []uint16 {
	bits := make([]uint16, 0, x.Rows*x.Cols)
	for i := range x.Rows {
		for _, v := range x.Row(i) {
			bits = append(bits, tensor.BF16Bits(v))
		}
	}
	return bits
}

// AttentionBF16 implements kerneltest.NarrowAttention.
func (*Backend) AttentionBF16() {}

// AttentionError implements kerneltest.CoarseAttention. Storing BF16 costs up to 2^-9 of an
// element. The tensor core cuts the 128 products of a tile's probabilities and values, added
// 32 at a time, after 13 fraction bits of the largest; those errors have both signs and grow
// as the root of their number, so that 2^-9 of the output has room for them.
func (*Backend) AttentionError(kernels.AttentionFormat) float64 { return 2 * 0x1p-9 }

// ScoreError implements kerneltest.CoarseScores. INT8 products are summed exactly. Of E4M3
// ones the tensor core adds 32 and the sum so far at a time, cut after 13 fraction bits of
// the largest: errors of both signs, to twice the root of their number.
func (*Backend) ScoreError(f kernels.AttentionFormat, headDim int) float64 {
	if f.Mode != kernels.AttentionFP8 {
		return 0
	}
	return 2 * math.Sqrt(33*float64(headDim)/32) * 0x1p-13
}
