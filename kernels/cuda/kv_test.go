//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/kernels/ref"
	"quantize/tensor"
)

// onDevice runs f on a card opened for it.
func onDevice(t *testing.T, f func(*Session) error) {
	t.Helper()
	d, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Run(f), d.Close()); err != nil {
		t.Error(err)
	}
}

// kvLengths are what goes wrong at the edges of tiles, records and splits, together.
var kvLengths = []int{1, 63, 64, 65, 127, 129, 4097, 0, 1000}

func kvCases() []kvCase {
	var all []kvCase
	for i, l := range kvLayouts() {
		for j, queries := range []int{1, 4, 8} {
			c := kvCase{layout: l, lengths: kvLengths, kvHeads: 2, queries: queries, bf16: (i+j)%2 == 0, fp8: j == 2, smooth: j == 1, chunk: []int{0, 4, 12}[(i+j)%3]}
			all = append(all, c)
		}
		all = append(all,
			kvCase{layout: l, lengths: []int{129, 700}, kvHeads: 3, queries: 3, bf16: true, outlier: 50},
			kvCase{layout: l, lengths: []int{4097}, kvHeads: 1, queries: 5})
	}
	return all
}

func TestKVDecode(t *testing.T) {
	onDevice(t, func(s *Session) error {
		var faults []error
		for _, c := range kvCases() {
			faults = append(faults, s.checkKVDecode(c, 1))
		}
		return errors.Join(faults...)
	})
}

// Fifty launches give the same bits, with a sequence in one part or in many.
func TestKVDecodeIsDeterministic(t *testing.T) {
	onDevice(t, func(s *Session) error {
		var faults []error
		for _, chunk := range []int{4, 64, 0} {
			l := KVLayout{HeadDim: 128, Group: 128}
			faults = append(faults, s.checkKVDecode(kvCase{layout: l, lengths: []int{4097, 300, 2048}, kvHeads: 8, queries: 4, chunk: chunk}, 50))
		}
		return errors.Join(faults...)
	})
}

func (s *Session) checkKVDecode(c kvCase, launches int) error {
	k, err := c.prepare(s)
	if err != nil {
		return err
	}
	defer func() { _ = k.free(s) }()
	out, lse, err := k.run(s)
	if err != nil {
		return err
	}
	worst, err := k.check(out, lse)
	if err != nil {
		return err
	}
	fmt.Printf("%-60.60s worst log-sum %.1e, 1-cosine %.1e\n", c, worst[0], worst[1])
	for i := 1; i < launches; i++ {
		again, againLSE, err := k.run(s)
		if err != nil {
			return err
		}
		for j := range out {
			if math.Float32bits(out[j]) != math.Float32bits(again[j]) {
				return wrong(fmt.Sprintf("%v, launch %d, output %d", c, i, j), fmt.Sprint(again[j]), fmt.Sprint(out[j]))
			}
		}
		if !slices.Equal(lse, againLSE) {
			return wrong(fmt.Sprintf("%v, launch %d", c, i), "other log-sums", "the same bits")
		}
	}
	return nil
}

// appendCase is a batch of new tokens.
type appendCase struct {
	layout            KVLayout
	tokens            int
	bf16, smooth      bool
	rotary            bool
	interleaved       bool
	positions, odd    bool // positions of their own; groups that no codec likes
	starts            []int
	kvHeads, capacity int // in tokens
}

// Codes and parameters are those of the twin, and nothing else is touched.
func TestKVAppend(t *testing.T) {
	onDevice(t, func(s *Session) error {
		var faults []error
		for i, l := range kvLayouts() {
			for j := range 4 {
				faults = append(faults, s.checkKVAppend(appendCase{
					layout: l, tokens: []int{1, 70, 9, 64}[j], bf16: (i+j)%2 == 0, smooth: j%2 == 1, rotary: j > 0, interleaved: j == 2, positions: j == 3,
					odd: j < 2, starts: []int{0, 59, 64, 150}, kvHeads: 3, capacity: 192,
				}))
			}
		}
		return errors.Join(faults...)
	})
}

func (s *Session) checkKVAppend(c appendCase) error {
	where := fmt.Sprintf("%+v", c)
	r := rand.New(rand.NewPCG(32, uint64(c.tokens)))
	d, batch := c.layout.HeadDim, len(c.starts)
	var kv [2][]float32
	var memory [2]Memory
	var owned []Memory
	defer func() {
		for _, m := range owned {
			_ = s.Free(m)
		}
	}()
	var err error
	own := func(m Memory, e error) Memory {
		owned, err = append(owned, m), errors.Join(err, e)
		return m
	}
	for i := range kv {
		kv[i] = make([]float32, batch*c.tokens*c.kvHeads*d)
		bits := make([]uint16, len(kv[i]))
		for j := range kv[i] {
			v := float32(r.NormFloat64())
			if c.odd {
				v = oddValue(r, j/c.layout.Group, v)
			}
			if bits[j] = tensor.BF16Bits(v); c.bf16 {
				v = tensor.BF16Value(bits[j])
			}
			kv[i][j] = v
		}
		if c.bf16 {
			memory[i] = own(AllocOf(s, bits))
		} else {
			memory[i] = own(AllocOf(s, kv[i]))
		}
	}
	in := NewKV{K: memory[0], V: memory[1], BF16: c.bf16, Tokens: c.tokens, Interleaved: c.interleaved}
	random := func(n int, f func() float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(f())
		}
		return x
	}
	starts, positions := make([]int32, batch), make([]int32, batch*c.tokens)
	for b, n := range c.starts {
		starts[b] = int32(n)
		for i := range c.tokens {
			positions[b*c.tokens+i] = int32(n + i)
			if c.positions {
				positions[b*c.tokens+i] = int32(r.IntN(300))
			}
		}
	}
	in.Starts = own(AllocOf(s, starts))
	if c.positions {
		in.Positions = own(AllocOf(s, positions))
	}
	cosines, sines := random(300*d/2, func() float64 { return math.Cos(r.Float64() * 7) }), random(300*d/2, func() float64 { return math.Sin(r.Float64() * 7) })
	if c.rotary {
		in.Cosines, in.Sines = own(AllocOf(s, cosines)), own(AllocOf(s, sines))
	}
	var kappa, keyMean, valueMean []float32
	if c.smooth {
		kappa = random(c.kvHeads*d, func() float64 { return math.Exp(0.5 * r.NormFloat64()) })
		keyMean, valueMean = random(c.kvHeads*d, r.NormFloat64), random(c.kvHeads*d, r.NormFloat64)
		in.KVSmoothing = KVSmoothing{own(AllocOf(s, kappa)), own(AllocOf(s, keyMean)), own(AllocOf(s, valueMean))}
	}
	cache, e := s.NewKVCache(c.layout, batch, c.kvHeads, c.capacity)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	if err := s.Free(cache.Records); err != nil {
		return err
	}
	size := c.layout.RecordBytes()
	guarded, err := s.newOutput(batch * c.kvHeads * cache.Capacity * size)
	if err != nil {
		return err
	}
	own(guarded.all, nil)
	cache.Records = guarded.inner
	if err := errors.Join(guarded.reset(s), s.AppendKV(cache, in, false), s.Wait(where)); err != nil {
		return err
	}
	got, err := guarded.download(s, where)
	if err != nil {
		return err
	}

	want := make([]byte, len(got))
	for i := range want {
		want[i] = poison
	}
	for item := range batch * c.tokens * c.kvHeads {
		row, h := item/c.kvHeads, item%c.kvHeads
		b := row / c.tokens
		place := c.starts[b] + row%c.tokens
		if place >= cache.Capacity*kvBlock {
			continue
		}
		key, value := slices.Clone(kv[0][item*d:(item+1)*d]), slices.Clone(kv[1][item*d:(item+1)*d])
		if c.rotary {
			at := int(positions[row]) * d / 2
			ref.Rotate(key, cosines[at:at+d/2], sines[at:at+d/2], c.interleaved)
		}
		if c.smooth {
			ref.Smooth(key, kappa[h*d:(h+1)*d], keyMean[h*d:(h+1)*d])
			ref.Smooth(value, nil, valueMean[h*d:(h+1)*d])
		}
		record := want[((b*c.kvHeads+h)*cache.Capacity+place/kvBlock)*size:][:size]
		c.layout.Put(record, false, place%kvBlock, ref.EncodeCached(c.layout.scheme(), key))
		c.layout.Put(record, true, place%kvBlock, ref.EncodeCached(c.layout.scheme(), value))
	}
	wrongBytes := 0
	first := -1
	for i, b := range got {
		if b != want[i] {
			if wrongBytes++; first < 0 {
				first = i
			}
		}
	}
	if first < 0 {
		return nil
	}
	area := "key codes"
	switch at := first % size; {
	case at >= kvBlock*d+(size-kvBlock*d)/2:
		area = "value parameters"
	case at >= kvBlock*d:
		area = "key parameters"
	case at >= kvBlock*d/2:
		area = "value codes"
	}
	return wrong(fmt.Sprintf("%s, %d of %d bytes wrong, record %d, byte %d (%s)", where, wrongBytes, len(got), first/size, first%size, area),
		fmt.Sprintf("%#02x", got[first]), fmt.Sprintf("%#02x", want[first]))
}

// oddValue makes groups of zeros, of both zeros, of equal values, tiny, huge, beyond
// every format, infinite, and with a NaN.
func oddValue(r *rand.Rand, group int, v float32) float32 {
	switch group % 11 {
	case 0:
		return 0
	case 1:
		return float32(math.Copysign(0, float64(v)))
	case 2:
		return 3.25
	case 3:
		return v * 1e-8
	case 4:
		return v * 1e4
	case 5:
		return v * 1e7
	case 6:
		if r.IntN(20) == 0 {
			return float32(math.Inf(1 - 2*r.IntN(2)))
		}
	case 7:
		if r.IntN(20) == 0 {
			return float32(math.NaN())
		}
	case 8:
		return 1000 + v
	}
	return v
}
