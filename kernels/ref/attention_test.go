package ref

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/tensor"
)

func random(rows, cols int, draw func() float64) tensor.Matrix {
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		x.Data[i] = float32(draw())
	}
	return x
}

// Smoothing changes no output and no lse: with operands whose means, differences and
// ΔS are exact in FP32 (small integers, lengths that are powers of two), attention of
// what is left equals attention to 1e-12.
func TestSmoothingIsAnIdentity(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 8))
	integers := func() float64 { return float64(r.IntN(5) - 2) }
	a := kernels.Attention{
		Batch: 2, Heads: 4, KVHeads: 2, HeadDim: 64, Queries: 256, Keys: 128, Causal: true, Scale: 0.125,
		Format: kernels.AttentionFormat{SmoothQ: true, SmoothK: true, SmoothV: true},
	}
	q, k, v := random(512, 256, integers), random(256, 128, integers), random(256, 128, integers)
	for j := range k.Rows { // so that the means are not near zero
		k.Row(j)[3] += 5
		v.Row(j)[4] -= 3
	}
	op := RoundAttention(q, k, v, a)
	d := a.HeadDim
	want, got := make([]float64, d), make([]float64, d)
	for row := range a.Batch * a.Heads * a.Queries {
		b, h, i := row/a.Queries/a.Heads, row/a.Queries%a.Heads, row%a.Queries
		g := h / 2
		lse := ExactAttention(want, q, k, v, a, b, h, i)
		smooth := ExactSoftmax(got, a, b, h, i, func(j int) float64 {
			s := dot(op.Q.Row(b*256 + i)[h*d:(h+1)*d], op.K.Row(b*128 + j)[g*d:(g+1)*d])
			return 0.125 * (s + float64(op.DeltaS.Row((b*2+i/128)*4 + h)[j]))
		}, func(j int) []float32 { return op.V.Row(b*128 + j)[g*d : (g+1)*d] })
		if math.IsInf(lse, -1) {
			continue
		}
		if off := math.Abs(smooth + float64(op.Shift.Row(b*256 + i)[h]) - lse); !(off <= 1e-12) {
			t.Fatalf("row %d: lse off by %v", row, off)
		}
		for c := range d {
			if off := math.Abs(got[c] + float64(op.VMeans.Row(b)[g*d+c]) - want[c]); !(off <= 1e-12) {
				t.Fatalf("row %d, channel %d: off by %v", row, c, off)
			}
		}
	}
}

// Tiles that nobody sees are not read: their keys and values are not even there.
func TestSkippedTilesAreNotRead(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 9))
	x := random(384, 8, r.NormFloat64)
	// The first 64 queries, with the keys of the first tiles only.
	reads := func(a kernels.Attention, present int) (missed bool) {
		a.Batch, a.Heads, a.KVHeads, a.HeadDim, a.Keys, a.Scale = 1, 1, 1, 8, 384, 1
		op := RoundAttention(x.RowRange(0, a.Queries), x, x, a)
		op.K.Data, op.V.Data = op.K.Data[:present*8:present*8], op.V.Data[:present*8:present*8]
		defer func() { missed = recover() != nil }()
		op.attendTile(tensor.NewMatrix(a.Queries, 8), tensor.Matrix{}, 0, 0, 0, 64)
		return false
	}
	masked := func(keep ...bool) kernels.Attention {
		return kernels.Attention{Queries: 64, Mask: &kernels.BlockMask{QueryBlock: 64, KeyBlock: 128, Keep: keep}}
	}
	for _, c := range []struct {
		name    string
		a       kernels.Attention
		present int
		want    bool
	}{
		{"everything is seen", kernels.Attention{Queries: 64}, 256, true},
		{"masked tile", masked(true, true, false), 256, false},
		{"tile that the mask keeps", masked(true, false, true), 256, true},
		{"keys after a causal tile", kernels.Attention{Queries: 384, Causal: true}, 128, false},
		{"keys of a causal tile", kernels.Attention{Queries: 384, Causal: true}, 63, true},
	} {
		if got := reads(c.a, c.present); got != c.want {
			t.Errorf("%s: missing keys were missed %v, want %v", c.name, got, c.want)
		}
	}
}

// Codes fill their range, miss by half a step at most, and a group of zeros has codes 0.
func TestScoresAreRounded(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(10, 10))
	q, k := random(100, 64, r.NormFloat64), random(200, 64, r.NormFloat64)
	for n := range 128 {
		clear(k.Row(n))
	}
	k.Row(130)[7] = float32(math.Inf(1))
	for mode, largest := range map[kernels.AttentionMode]float32{
		kernels.AttentionInt8: 127, kernels.AttentionInt4: 7, kernels.AttentionFP8: 448,
	} {
		for _, granularity := range []kernels.Granularity{kernels.PerBlock, kernels.PerWarp, kernels.PerThread} {
			f := kernels.AttentionFormat{Mode: mode, Granularity: granularity}
			a := kernels.Attention{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 100, Keys: 200, Scale: 1, Format: f}
			op := RoundAttention(q, k, k, a)
			top := map[int]float32{}
			for i := range q.Rows {
				s := op.QScales.Row(i)[0]
				for c, x := range q.Row(i) {
					code := op.Q.Row(i)[c]
					step := s
					if mode == kernels.AttentionFP8 {
						step = max(s/64, float32(math.Abs(float64(x)))/8) // 3 mantissa bits, subnormals
					}
					if off := math.Abs(float64(code*s - x)); !(off <= float64(step)*0.50005) {
						t.Fatalf("%v %v: %v became %v, a step is %v", mode, granularity, x, code*s, step)
					}
					top[f.QueryGroup(i)] = max(top[f.QueryGroup(i)], float32(math.Abs(float64(code))))
				}
			}
			for g, code := range top {
				if code != largest {
					t.Errorf("%v %v: group %d reaches code %v, want %v", mode, granularity, g, code, largest)
				}
			}
			for j := range k.Rows {
				s := op.KScales.Row(j)[0]
				switch broken := f.KeyGroup(j) == f.KeyGroup(130); {
				case j < 128 && (s != minScale || op.K.Row(j)[j%64] != 0):
					t.Fatalf("%v %v: key %d of zeros has scale %v, code %v", mode, granularity, j, s, op.K.Row(j)[j%64])
				case broken != (s != s):
					t.Fatalf("%v %v: key %d has scale %v beside an infinity: %v", mode, granularity, j, s, broken)
				}
			}
		}
	}
}

// Without smooth K a common bias of keys takes the codes from what tells them apart;
// the suite's bound on a bias would see a kernel that forgets the mean.
func TestBiasNeedsSmoothing(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(11, 11))
	q, k, v := random(32, 64, r.NormFloat64), random(128, 64, r.NormFloat64), random(128, 64, r.NormFloat64)
	for i := range k.Data {
		k.Data[i] += 1000
	}
	failure := func(smooth bool) float64 {
		a := kernels.Attention{
			Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 32, Keys: 128, Scale: 0.125,
			Format: kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: smooth},
		}
		dst := tensor.NewMatrix(32, 64)
		if err := New().Attention(dst, tensor.Matrix{}, q, k, v, a); err != nil {
			t.Fatal(err)
		}
		noise, signal, want := 0.0, 0.0, make([]float64, 64)
		for i := range 32 {
			ExactAttention(want, q, k, v, a, 0, 0, i)
			for c, w := range want {
				d := float64(dst.Row(i)[c]) - w
				noise, signal = noise+d*d, signal+w*w
			}
		}
		return math.Sqrt(noise / signal)
	}
	if with, without := failure(true), failure(false); !(with <= 0.04 && without >= 0.2) {
		t.Errorf("relative error %.3g with smooth K, %.3g without", with, without)
	}
}
