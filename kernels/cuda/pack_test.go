package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

// randomWeight has codes -low..7 and scales of many magnitudes.
func randomWeight(r *rand.Rand, n, k, group, low int) *packer.Int4Weight {
	w := &packer.Int4Weight{N: n, K: k, GroupSize: group, Codes: make([]uint32, n*k/8), Scales: make([]uint16, n*k/group), FP8Activations: true}
	for i := range w.Codes {
		for j := range 8 {
			w.Codes[i] |= uint32(8-low+r.IntN(8+low)) << (4 * j)
		}
	}
	for i := range w.Scales {
		w.Scales[i] = uint16(math.Float32bits(float32(0.01*math.Exp(r.NormFloat64()))) >> 16)
	}
	return w
}

// Every packed value is what the arithmetic multiplies (packer.Products), without
// the channel factor.
func TestPackKeepsEveryValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, k, group, low int }{
		{64, 128, 128, 7}, {1, 128, 128, 7}, {65, 256, 128, 8}, {300, 384, 128, 8}, {256, 128, 64, 7}, {70, 192, 64, 8}, {3, 64, 64, 7},
	} {
		for _, a := range []packer.Arithmetic{packer.Exact, packer.LUT} {
			t.Run(fmt.Sprint(c, a), func(t *testing.T) {
				t.Parallel()
				checkValues(t, randomWeight(rand.New(rand.NewPCG(1, uint64(c.n))), c.n, c.k, c.group, c.low), a)
			})
		}
	}
}

func checkValues(t *testing.T, w *packer.Int4Weight, a packer.Arithmetic) {
	p, err := Pack(w, a)
	if err != nil {
		t.Fatal(err)
	}
	chans, s8 := w.Split()
	for n := range p.Blocks * unitRows {
		for k := range p.Slabs * slab {
			want := float32(0)
			if n < w.N && k < w.K {
				at := (n*w.K + k) / w.GroupSize
				want = packer.Products(a, w.Scales[at], s8[at], 0x1p-12)[code(w, n, k)+8] // 4096·chan is 1
			}
			if got := p.Value(n, k); got != want {
				t.Fatalf("value (%d, %d) is %v, want %v", n, k, got, want)
			}
		}
		if n < w.N && p.Channel[n] != chans[n]*4096 || n >= w.N && p.Channel[n] != 0 {
			t.Fatalf("channel factor %d is %v", n, p.Channel[n])
		}
	}
}

// expand is expand.cuh, word for word; scale is of Products alone.
func expand(c Codes, word uint32, scale float32) (a, b uint32) {
	if c != Products {
		a, b = word&0x87878787, (word>>4|word<<28)&0x87878787
		if c == Signed8 {
			a += a & 0x80808080 >> 7
			b += b & 0x80808080 >> 7
		}
		return a, b
	}
	var negative uint64
	for i := range 8 {
		negative |= uint64(tensor.E4M3(-float32(i+1)*scale)) << (8 * i)
	}
	positive := negative << 8 &^ 0x8080808080808080
	pick := func(table uint64, selectors uint32) (r uint32) {
		for i := range 4 {
			r |= uint32(uint8(table>>(8*(selectors>>(4*i)&7)))) << (8 * i)
		}
		return r
	}
	signs := func(word uint32) (r uint32) {
		for i := range 4 {
			if word>>(8*i+7)&1 == 1 {
				r |= 0xFF << (8 * i)
			}
		}
		return r
	}
	chosen := word & 0x77777777
	minusA, minusB := signs(word), signs(word<<4)
	a = pick(negative, chosen)&minusA | pick(positive, chosen)&^minusA
	b = pick(negative, chosen>>16)&minusB | pick(positive, chosen>>16)&^minusB
	return a, b
}

// All pairs of codes at every byte, and random words, expand to what they mean,
// under every E4M3 scale that a group can have.
func TestExpansionIsExact(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	check := func(c Codes, u, v [4]int) {
		word := uint32(0)
		for i := range 4 {
			word |= c.fields(i, u[i], v[i])
		}
		scale := tensor.E4M3Value(uint8(r.IntN(0x67))) // up to 56, the eighth of 448
		meaning := func(q int) float32 { return float32(q) / 512 }
		if c == Products {
			meaning = func(q int) float32 { return tensor.RoundE4M3(float32(q) * scale) }
		}
		a, b := expand(c, word, scale)
		for i := range 4 {
			gotU, gotV := tensor.E4M3Value(uint8(a>>(8*i))), tensor.E4M3Value(uint8(b>>(8*i)))
			if gotU != meaning(u[i]) || gotV != meaning(v[i]) {
				t.Fatalf("%v: codes %v %v, byte %d: %v and %v", c, u, v, i, gotU, gotV)
			}
			if c.code(word, 0, i) != u[i] || c.code(word, 1, i) != v[i] {
				t.Fatalf("%v: codes %v %v come back as %d and %d", c, u, v, c.code(word, 0, i), c.code(word, 1, i))
			}
		}
	}
	for c, low := range map[Codes]int{Signed7: -7, Signed8: -8, Products: -8} {
		for at := range 4 {
			for u := low; u <= 7; u++ {
				for v := low; v <= 7; v++ {
					var us, vs [4]int
					us[at], vs[at] = u, v
					check(c, us, vs)
				}
			}
		}
		for range 50000 {
			var us, vs [4]int
			for i := range 4 {
				us[i], vs[i] = low+r.IntN(8-low), low+r.IntN(8-low)
			}
			check(c, us, vs)
		}
	}
}

// The offsets of the activations are a bijection onto the padded rows, and rows
// of a slab are contiguous.
func TestActivationLayout(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, slabs := rapid.IntRange(1, 40).Draw(t, "tokens"), rapid.IntRange(1, 3).Draw(t, "slabs")
		rows := paddedRows(m)
		seen := make([]bool, rows*slabs*slab)
		for i := range rows {
			for k := range slabs * slab {
				at := activationOffset(i, k, rows)
				if seen[at] {
					t.Fatalf("two elements at %d", at)
				}
				if seen[at] = true; at/slab != k/slab*rows+i {
					t.Fatalf("token %d, k %d in row %d", i, k, at/slab)
				}
			}
		}
	})
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for _, w := range []*packer.Int4Weight{
		{N: 2, K: 96, GroupSize: 32}, {N: 2, K: 192, GroupSize: 128}, {N: 0, K: 128, GroupSize: 128}, {N: 1, K: 0, GroupSize: 64},
	} {
		if _, err := Pack(w, packer.Exact); !errors.Is(err, kernels.ErrUnsupported) {
			t.Errorf("(%d, %d) in groups of %d: %v, want ErrUnsupported", w.N, w.K, w.GroupSize, err)
		}
	}
}
