//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

const (
	attentionGroups  = 3     // warpgroups of a block that multiply; a fourth copies
	statisticsTokens = 512   // that a block of attention_statistics goes over
	maxGridY         = 65535 // blocks along y
)

// Prefill is an attention on the card: room for its rounded keys and values, in the tiles
// of the package comment, and what is fixed about the call.
type Prefill struct {
	Attention    kernels.Attention
	Tiles        int    // of 128 keys
	K, V         Memory // codes (Batch·KVHeads, Tiles, 128·HeadDim)
	KScale       Memory // float32 (Batch·KVHeads, Tiles, 4)
	VScale       Memory // float32 (Batch·KVHeads, HeadDim)
	KMean, VMean Memory // float32 (Batch·KVHeads, HeadDim), or zero where none are taken off
	partial      Memory // float32 (Batch·KVHeads, chunks of 512 tokens, 4, HeadDim)
	mask         Memory // bits (maskBits), or zero for all
	words        int
}

// supportedAttention reports with kernels.ErrUnsupported what the prefill kernels lack.
func supportedAttention(a kernels.Attention) error {
	bad := func(where, found, wanted string) error {
		return &fault.Error{Err: kernels.ErrUnsupported, Where: where, Found: found, Wanted: wanted}
	}
	f := a.Format
	switch m := a.Mask; {
	case f.KV.Format != packer.KVNone:
		return bad("attention on the card", fmt.Sprintf("a cache in %v", f.KV), "keys and values as they are, INT4 without a mask, or the CPU")
	case f.Mode == kernels.AttentionBF16:
		return bad("attention on the card", f.Mode.String(), "fp8, int8-qk or int4-qk, or the CPU")
	case f.Granularity != kernels.PerThread:
		return bad("attention on the card", "scales by "+f.Granularity.String(), "scales by thread, which are finer")
	case f.Hadamard && f.Mode == kernels.AttentionFP8:
		return bad("attention on the card", "a Hadamard matrix before E4M3", "no matrix, by which E4M3 gains nothing, or the CPU")
	case f.SmoothQ:
		return bad("attention on the card", "smooth Q", "smooth K, or the CPU")
	case a.HeadDim != 64 && a.HeadDim != 128:
		return bad("attention on the card", fmt.Sprintf("heads of %d channels", a.HeadDim), "64 or 128, or the CPU")
	case a.Batch*a.KVHeads > maxGridY:
		return bad("attention on the card", fmt.Sprintf("%d sequences of %d KV heads", a.Batch, a.KVHeads), fmt.Sprintf("a product of at most %d: split the batch", maxGridY))
	case m != nil && (m.QueryBlock%attentionRows != 0 || m.KeyBlock%attentionKeys != 0):
		return bad("block mask", fmt.Sprintf("blocks of %d x %d", m.QueryBlock, m.KeyBlock), fmt.Sprintf("multiples of %d x %d, or the CPU", attentionRows, attentionKeys))
	}
	return nil
}

// NewPrefill allocates room for a, of which Batch, heads, lengths, Scale, Causal, Window,
// Mask and Format count. Heads have 64 or 128 channels; the format is int8-qk, int4-qk (in
// INT8 products) or fp8, with scales by thread, smooth K or not, smooth V or not, a Hadamard matrix or none before integers; blocks of
// a mask are multiples of 64 queries x 128 keys. All else is kernels.ErrUnsupported.
func (s *Session) NewPrefill(a kernels.Attention) (*Prefill, error) {
	if err := supportedAttention(a); err != nil {
		return nil, err
	}
	p := &Prefill{Attention: a, Tiles: ceilDiv(a.Keys, attentionKeys)}
	pairs, d := a.Batch*a.KVHeads, a.HeadDim
	rooms := []room{
		{&p.K, pairs * p.Tiles * attentionKeys * d},
		{&p.V, pairs * p.Tiles * attentionKeys * d},
		{&p.KScale, pairs * p.Tiles * 4 * 4},
		{&p.VScale, pairs * d * 4},
		{&p.partial, pairs * ceilDiv(a.Keys, statisticsTokens) * 4 * d * 4},
	}
	if a.Format.SmoothK {
		rooms = append(rooms, room{&p.KMean, pairs * d * 4})
	}
	if a.Format.SmoothV {
		rooms = append(rooms, room{&p.VMean, pairs * d * 4})
	}
	for _, r := range rooms {
		m, err := s.Alloc(r.bytes)
		if err != nil {
			return nil, errors.Join(err, p.Free(s))
		}
		*r.to = m
	}
	bits, words := maskBits(a)
	if p.words = words; words == 0 {
		return p, nil
	}
	var err error
	if p.mask, err = AllocOf(s, bits); err != nil {
		return nil, errors.Join(err, p.Free(s))
	}
	return p, nil
}

// room is memory to allocate.
type room struct {
	to    *Memory
	bytes int
}

// Free gives the memory back.
func (p *Prefill) Free(s *Session) error {
	return errors.Join(s.Free(p.K), s.Free(p.V), s.Free(p.KScale), s.Free(p.VScale), s.Free(p.KMean), s.Free(p.VMean), s.Free(p.partial), s.Free(p.mask))
}

// where names the call in errors.
func (p *Prefill) where() string {
	a := p.Attention
	return fmt.Sprintf("%d x (%d queries, %d keys), %d heads on %d of %d channels", a.Batch, a.Queries, a.Keys, a.Heads, a.KVHeads, a.HeadDim)
}

// limit is the largest code of queries and keys.
func (p *Prefill) limit() float32 {
	return map[kernels.AttentionMode]float32{
		kernels.AttentionFP8: tensor.MaxE4M3, kernels.AttentionInt8: 127, kernels.AttentionInt4: 7,
	}[p.Attention.Format.Mode]
}

// turned are the factors of queries and keys that a Hadamard matrix of ones and minus ones
// has turned, as ref.RoundAttention divides them; 0 where nothing turns.
func turned(a kernels.Attention) (queries, keys float32) {
	if !a.Format.Hadamard {
		return 0, 0
	}
	n := bits.TrailingZeros(uint(a.HeadDim))
	return float32(math.Ldexp(1, -(n / 2))), float32(math.Ldexp(1, -(n - n/2)))
}

// attentionQuantizeArgument is struct Quantize of attention_quantize.cu.
type attentionQuantizeArgument struct {
	K, V, Partial, KCodes, VCodes, KScale, VScale, KMean, VMean uint64
	Batch, KVHeads, Keys, Tiles, Chunks, E4M3                   int32
	Limit, Turned                                               float32
}

// RoundKeys smooths and rounds keys and values, BF16 (Batch, Keys, KVHeads, HeadDim) each,
// as ref.RoundAttention says but for the means, whose sums are FP32. Keys and values must
// be finite. dependent lets it start while the kernel before it still runs.
func (s *Session) RoundKeys(p *Prefill, k, v Memory, dependent bool) error {
	a := p.Attention
	if bytes := 2 * a.Batch * a.Keys * a.KVHeads * a.HeadDim; k.Bytes < bytes || v.Bytes < bytes {
		panic("cuda: keys or values are not (Batch, Keys, KVHeads, HeadDim)")
	}
	pairs := a.Batch * a.KVHeads
	if a.Keys == 0 || pairs == 0 {
		return s.Fill(p.VScale, 0) // outputs are 0 times these
	}
	q := &attentionQuantizeArgument{
		K: k.Address, V: v.Address, Partial: p.partial.Address, KCodes: p.K.Address, VCodes: p.V.Address,
		KScale: p.KScale.Address, VScale: p.VScale.Address, KMean: p.KMean.Address, VMean: p.VMean.Address,
		Batch: int32(a.Batch), KVHeads: int32(a.KVHeads), Keys: int32(a.Keys), Tiles: int32(p.Tiles),
		Chunks: int32(ceilDiv(a.Keys, statisticsTokens)), Limit: p.limit(),
	}
	if a.Format.Mode == kernels.AttentionFP8 {
		q.E4M3 = 1
	}
	_, q.Turned = turned(a)
	statistics := Launch{Grid: Dim{X: int(q.Chunks), Y: pairs}, Threads: 256, Dependent: dependent}
	if err := launch(s, fmt.Sprintf("attention_statistics_%d", a.HeadDim), statistics, q, p.where()); err != nil {
		return err
	}
	quantize := Launch{Grid: Dim{X: p.Tiles, Y: pairs}, Threads: 256, Dependent: dependent}
	return launch(s, fmt.Sprintf("attention_quantize_%d", a.HeadDim), quantize, q, p.where())
}

// prefillArgument is struct Argument of attention.cuh.
type prefillArgument struct {
	Q, K, V, KScale, VScale, KMean, VMean, Mask, O, LSE                uint64
	Batch, Heads, KVHeads, Queries, Keys, Tiles, Words, Window, Causal int32
	Sharing, Chunks                                                    int32
	Scale, Limit                                                       float32
	Turned                                                             float32
	Capacity                                                           int32 // of AttendCached, as KeyScale
	KeyScale                                                           uint64
}

// AttendPrefill attends with queries q, BF16 (Batch, Queries, Heads, HeadDim) and finite, over
// what RoundKeys has rounded. It writes o, BF16 in the same layout, and lse, float32
// (Batch, Queries, Heads), unless that is the zero Memory. Every launch gives the same bits.
func (s *Session) AttendPrefill(p *Prefill, o, lse, q Memory, dependent bool) error {
	a := p.Attention
	if bytes := 2 * a.Batch * a.Queries * a.Heads * a.HeadDim; q.Bytes < bytes || o.Bytes < bytes {
		panic("cuda: queries or output are not (Batch, Queries, Heads, HeadDim)")
	}
	if lse.Address != 0 && lse.Bytes < 4*a.Batch*a.Queries*a.Heads {
		panic("cuda: lse is not (Batch, Queries, Heads)")
	}
	items := prefillItems(a.Queries, a.Heads/a.KVHeads, attentionGroups) * a.Batch * a.KVHeads
	if items == 0 {
		return nil
	}
	argument := &prefillArgument{
		Q: q.Address, K: p.K.Address, V: p.V.Address, KScale: p.KScale.Address, VScale: p.VScale.Address,
		KMean: p.KMean.Address, VMean: p.VMean.Address, Mask: p.mask.Address, O: o.Address, LSE: lse.Address,
		Batch: int32(a.Batch), Heads: int32(a.Heads), KVHeads: int32(a.KVHeads), Queries: int32(a.Queries), Keys: int32(a.Keys),
		Tiles: int32(p.Tiles), Words: int32(p.words), Window: int32(a.Window), Causal: flag(a.Causal),
		Sharing: int32(a.Heads / a.KVHeads), Chunks: int32(ceilDiv(a.Queries, attentionRows)), Scale: a.Scale, Limit: p.limit(),
	}
	argument.Turned, _ = turned(a)
	l := Launch{
		Grid: Dim{X: min(items, s.properties.Processors)}, Threads: 128 * (attentionGroups + 1),
		SharedBytes: prefillShared(a.HeadDim), Dependent: dependent,
	}
	return launch(s, p.kernel(), l, argument, p.where())
}

// prefillItems counts the items of a KV head (struct Item of attention.cuh): units of 64
// queries of one of its heads, by the warpgroups that take one each.
func prefillItems(queries, heads, groups int) int {
	return ceilDiv(ceilDiv(queries, attentionRows)*heads, groups)
}

// kernel is the name of the one that multiplies.
func (p *Prefill) kernel() string {
	codes := "int8"
	if p.Attention.Format.Mode == kernels.AttentionFP8 {
		codes = "e4m3"
	}
	return prefillKernel(codes, p.Attention.HeadDim, p.words > 0, p.Attention.Format.Hadamard)
}

func prefillKernel(codes string, d int, sparse, turned bool) string {
	name := fmt.Sprintf("attention_%s_%d", codes, d)
	if sparse {
		name += "_sparse"
	}
	if turned {
		name += "_turned"
	}
	return name
}

// prefillShared is the dynamic shared memory of a block for heads of d channels.
func prefillShared(d int) int {
	stages := 3
	if d == 64 {
		stages = 4
	}
	return sharedBytes(d, attentionGroups, stages)
}

// sharedBytes is struct Shared of attention_consumer.cuh: queries, stages of K and V, a
// float a row, four barriers a stage, and what aligns them to 1024 bytes.
func sharedBytes(d, groups, stages int) int {
	rows := groups * attentionRows
	return rows*d + 2*stages*attentionKeys*d + 4*rows + 4*8*stages + 1024
}

// allowPrefill lets the prefill kernels have their shared memory.
func (s *Session) allowPrefill() error {
	var faults []error
	for _, d := range []int{64, 128} {
		for _, sparse := range []bool{false, true} {
			for _, name := range []string{
				prefillKernel("int8", d, sparse, false), prefillKernel("int8", d, sparse, true), prefillKernel("e4m3", d, sparse, false),
			} {
				faults = append(faults, allowShared(s.functions[name], prefillShared(d), "kernel "+name))
			}
		}
	}
	return errors.Join(faults...)
}
