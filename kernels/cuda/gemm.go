//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/packer"
)

// aloneBytes of shared memory are more than half of a multiprocessor's.
const aloneBytes = 116 << 10

// Weight is a packed weight on the card.
type Weight struct {
	N, K, Group   int
	Blocks, Slabs int
	Codes         Codes
	Units         Memory
	Channel       Memory // float32 (64·Blocks)
	Bias          Memory // float32 (64·Blocks), or zero for none
}

// Free gives the memory back.
func (w *Weight) Free(s *Session) error {
	return errors.Join(s.Free(w.Units), s.Free(w.Channel), s.Free(w.Bias))
}

// UploadWeight puts p on the card. bias has length N or is nil.
func (s *Session) UploadWeight(p *Packed, bias []float32) (*Weight, error) {
	w := &Weight{N: p.N, K: p.K, Group: p.Group, Blocks: p.Blocks, Slabs: p.Slabs, Codes: p.Codes}
	var err error
	if w.Units, err = AllocOf(s, p.Units); err != nil {
		return nil, err
	}
	if w.Channel, err = AllocOf(s, p.Channel); err != nil {
		return nil, err
	}
	return w, s.setBias(w, bias)
}

func (s *Session) setBias(w *Weight, bias []float32) error {
	if bias == nil {
		return nil
	}
	padded := make([]float32, w.Blocks*unitRows)
	copy(padded, bias)
	var err error
	w.Bias, err = AllocOf(s, padded)
	return err
}

// repackArgument is struct Repack of repack.cu.
type repackArgument struct {
	Codes, Scales, Units, Channel, Eighths, Flags uint64
	N, K, Group, Slabs, Blocks, Coding            int32
}

// PackOnDevice uploads w as it is stored and puts it into fragment order there:
// the bytes of Pack. bias has length N or is nil.
func (s *Session) PackOnDevice(w *packer.Int4Weight, arithmetic packer.Arithmetic, bias []float32) (*Weight, error) {
	if err := Supported(w); err != nil {
		return nil, err
	}
	where := fmt.Sprintf("weight (%d, %d)", w.N, w.K)
	blocks, slabs := shape(w.N, w.K)
	d := &Weight{N: w.N, K: w.K, Group: w.GroupSize, Blocks: blocks, Slabs: slabs, Codes: Signed7}
	var scratch [4]Memory
	defer func() {
		for _, m := range scratch {
			_ = s.Free(m) // an error here has been reported by the call before it
		}
	}()
	var err error
	if scratch[0], err = AllocOf(s, w.Codes); err != nil {
		return nil, err
	}
	if scratch[1], err = AllocOf(s, w.Scales); err != nil {
		return nil, err
	}
	if scratch[2], err = s.Alloc(len(w.Scales)); err != nil {
		return nil, err
	}
	flags := []uint32{0}
	if scratch[3], err = AllocOf(s, flags); err != nil {
		return nil, err
	}
	if d.Units, err = s.Alloc(blocks * slabs * unitBytes(w.GroupSize)); err != nil {
		return nil, err
	}
	if d.Channel, err = s.Alloc(blocks * unitRows * 4); err != nil {
		return nil, err
	}
	a := &repackArgument{
		Codes: scratch[0].Address, Scales: scratch[1].Address, Units: d.Units.Address, Channel: d.Channel.Address,
		Eighths: scratch[2].Address, Flags: scratch[3].Address,
		N: int32(w.N), K: int32(w.K), Group: int32(w.GroupSize), Slabs: int32(slabs), Blocks: int32(blocks),
	}
	if err := launch(s, "repack_scan", Launch{Grid: Dim{X: 4 * s.properties.Processors}, Threads: 256}, a, where); err != nil {
		return nil, err
	}
	if err := launch(s, "repack_scales", Launch{Grid: Dim{X: blocks}, Threads: 64}, a, where); err != nil {
		return nil, err
	}
	if err := Download(s, flags, scratch[3]); err != nil {
		return nil, err
	}
	switch {
	case arithmetic == packer.LUT:
		a.Coding, d.Codes = 2, Products
	case flags[0] != 0:
		a.Coding, d.Codes = 1, Signed8
	}
	if err := launch(s, "repack_units", Launch{Grid: Dim{X: slabs, Y: blocks}, Threads: 128}, a, where); err != nil {
		return nil, err
	}
	if err := s.Wait("packing, " + where); err != nil {
		return nil, err
	}
	return d, s.setBias(d, bias)
}

// Arithmetic is the one for which w was packed.
func (w *Weight) Arithmetic() packer.Arithmetic {
	if w.Codes == Products {
		return packer.LUT
	}
	return packer.Exact
}

// Activations are tokens rounded to E4M3, on the card.
type Activations struct {
	M, K  int
	Rows  int    // M padded to a multiple of 8
	Codes Memory // [slabs][Rows][128]
	Token Memory // float32 (Rows)
}

// NewActivations allocates room for m tokens of k elements.
func (s *Session) NewActivations(m, k int) (*Activations, error) {
	a := &Activations{M: m, K: k, Rows: paddedRows(m)}
	var err error
	if a.Codes, err = s.Alloc(ceilDiv(k, slab) * a.Rows * slab); err != nil {
		return nil, err
	}
	a.Token, err = s.Alloc(4 * a.Rows) // copied in whole groups of eight
	return a, err
}

// Free gives the memory back.
func (a *Activations) Free(s *Session) error { return errors.Join(s.Free(a.Codes), s.Free(a.Token)) }

// gemmArgument is struct Gemm of gemm.cuh.
type gemmArgument struct {
	W, Channel, Bias, X, Token, Y uint64
	M, N, Rows, Slabs, Blocks     int32
}

// Multiply writes the product of x and w as BF16 (M, N) into y, in the arithmetic
// for which w was packed. c chooses the kernel ([Dispatch]); dependent lets it
// start while the kernel before it in the stream still runs.
func (s *Session) Multiply(y Memory, w *Weight, x *Activations, c Config, dependent bool) error {
	switch {
	case x.K != w.K:
		panic("cuda: K of activations and weight differ")
	case y.Bytes < 2*x.M*w.N:
		panic("cuda: the product does not fit its memory")
	}
	if x.M == 0 {
		return nil
	}
	name := c.kernel(w.Codes.String(), w.Group)
	where := fmt.Sprintf("M %d, N %d, K %d", x.M, w.N, w.K)
	k, ok := s.manifest.gemm(name)
	if !ok {
		return &fault.Error{Err: kernels.ErrUnsupported, Where: where, Found: "kernel " + name, Wanted: "one of `quantize kernels list`"}
	}
	l := Launch{Threads: k.Threads, SharedBytes: k.SharedBytes, Dependent: dependent}
	if c.Decode() {
		l.Cluster = max(c.Split, 1)
		if c.Alone {
			l.SharedBytes = max(l.SharedBytes, aloneBytes)
		}
		l.Grid = Dim{X: l.Cluster, Y: ceilDiv(w.N, k.Channels), Z: ceilDiv(x.M, k.Tokens)}
	} else {
		l.Cluster = k.Cluster
		tiles := ceilDiv(w.N, k.Channels) * ceilDiv(x.M, k.Tokens)
		l.Grid = Dim{X: min(tiles, s.properties.Processors/k.Cluster) * k.Cluster}
	}
	argument := &gemmArgument{
		W: w.Units.Address, Channel: w.Channel.Address, Bias: w.Bias.Address, X: x.Codes.Address, Token: x.Token.Address, Y: y.Address,
		M: int32(x.M), N: int32(w.N), Rows: int32(x.Rows), Slabs: int32(w.Slabs), Blocks: int32(w.Blocks),
	}
	return launch(s, name, l, argument, where)
}
