//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// prefillFormats are all that the kernels have.
func prefillFormats() []kernels.AttentionFormat {
	var all []kernels.AttentionFormat
	for _, mode := range []kernels.AttentionMode{kernels.AttentionInt8, kernels.AttentionInt4, kernels.AttentionFP8} {
		for choice := range 8 {
			if mode == kernels.AttentionFP8 && choice&4 != 0 {
				continue
			}
			all = append(all, kernels.AttentionFormat{
				Mode: mode, Granularity: kernels.PerThread, SmoothK: choice&1 == 0, SmoothV: choice&2 != 0, Hadamard: choice&4 != 0,
			})
		}
	}
	return all
}

// checkAttentionCodes rounds keys and values at the edges of tiles and of what one block of
// the statistics goes over.
func checkAttentionCodes(s *Session) error {
	var faults []error
	for i, f := range prefillFormats() {
		for _, keys := range []int{1, 63, 64, 65, 127, 128, 129, 511, 513, 1100} {
			for _, d := range []int{64, 128} {
				a := kernels.Attention{Batch: 2, Heads: 3, KVHeads: 3, HeadDim: d, Keys: keys, Format: f}
				faults = append(faults, s.checkCodes(rand.New(rand.NewPCG(20, uint64(i*10000+keys+d))), a))
			}
		}
	}
	return errors.Join(faults...)
}

// bf16Normals is N(0,1) in BF16 numbers, with channel 5 fifty times as large and channel 6
// around 7.
func bf16Normals(r *rand.Rand, rows, cols, d int) tensor.Matrix {
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		v := r.NormFloat64()
		switch i % d {
		case 5:
			v *= 50
		case 6:
			v += 7
		}
		x.Data[i] = tensor.BF16Value(tensor.BF16Bits(float32(v)))
	}
	return x
}

// checkCodes compares codes and scales of every token with the twin's, to the bit, given the
// means of the card; those must be means to what FP32 sums lose.
func (s *Session) checkCodes(r *rand.Rand, a kernels.Attention) (err error) {
	where := fmt.Sprintf("%+v, %d keys, %d channels", a.Format, a.Keys, a.HeadDim)
	m := a.KVHeads * a.HeadDim
	k, v := bf16Normals(r, a.Batch*a.Keys, m, a.HeadDim), bf16Normals(r, a.Batch*a.Keys, m, a.HeadDim)
	for j := range k.Rows { // a group of zeros
		if j%a.Keys%8/2 == 1 {
			clear(k.Row(j)[:a.HeadDim])
		}
	}
	got, err := s.roundedOnCard(a, k, v)
	if err != nil {
		return err
	}
	if err := errors.Join(takeMeans(k, got.kMean, a, where+", keys"), takeMeans(v, got.vMean, a, where+", values")); err != nil {
		return err
	}
	plain := a
	plain.Format.SmoothK, plain.Format.SmoothV = false, false
	return got.compare(ref.RoundAttention(tensor.NewMatrix(0, a.Heads*a.HeadDim), k, v, plain), where)
}

// roundedKeys are what a Prefill holds, downloaded.
type roundedKeys struct {
	tiles                        int
	k, v                         []uint8
	kScale, vScale, kMean, vMean []float32
}

func (s *Session) roundedOnCard(a kernels.Attention, k, v tensor.Matrix) (got *roundedKeys, err error) {
	p, err := s.NewPrefill(a)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Free(s)) }()
	keys, err := AllocOf(s, bf16Of(k))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Free(keys)) }()
	values, err := AllocOf(s, bf16Of(v))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Free(values)) }()
	for _, to := range []Memory{p.K, p.V, p.KScale, p.VScale} {
		if err := s.Fill(to, poison); err != nil {
			return nil, err
		}
	}
	if err := s.RoundKeys(p, keys, values, true); err != nil {
		return nil, err
	}
	got = &roundedKeys{
		tiles: p.Tiles, k: make([]uint8, p.K.Bytes), v: make([]uint8, p.V.Bytes),
		kScale: make([]float32, p.KScale.Bytes/4), vScale: make([]float32, p.VScale.Bytes/4),
		kMean: make([]float32, p.KMean.Bytes/4), vMean: make([]float32, p.VMean.Bytes/4),
	}
	return got, errors.Join(Download(s, got.k, p.K), Download(s, got.v, p.V), Download(s, got.kScale, p.KScale), Download(s, got.vScale, p.VScale),
		Download(s, got.kMean, p.KMean), Download(s, got.vMean, p.VMean))
}

// takeMeans subtracts means (Batch, KVHeads·HeadDim), if there are any, from x.
func takeMeans(x tensor.Matrix, means []float32, a kernels.Attention, where string) error {
	if len(means) == 0 {
		return nil
	}
	for b := range a.Batch {
		rows := x.RowRange(b*a.Keys, (b+1)*a.Keys)
		for c, mean := range means[b*x.Cols : (b+1)*x.Cols] {
			sum, size := 0.0, 0.0
			for j := range rows.Rows {
				sum += float64(rows.Row(j)[c])
				size += math.Abs(float64(rows.Row(j)[c]))
			}
			if off := math.Abs(float64(mean) - sum/float64(a.Keys)); !(off <= 1e-5*size/float64(a.Keys)) {
				return wrong(where, fmt.Sprintf("mean %v of channel %d", mean, c), fmt.Sprint(sum/float64(a.Keys)))
			}
			for j := range rows.Rows {
				rows.Row(j)[c] -= mean
			}
		}
	}
	return nil
}

// compare looks up every code and scale by the layouts of attentionlayout.go.
func (got *roundedKeys) compare(want *ref.AttentionOperands, where string) error {
	a := want.Attention
	d, size := a.HeadDim, got.tiles*attentionKeys*a.HeadDim
	value := func(code uint8) float32 { return float32(int8(code)) }
	if a.Format.Mode == kernels.AttentionFP8 {
		value = tensor.E4M3Value
	}
	for pair := range a.Batch * a.KVHeads {
		b, g := pair/a.KVHeads, pair%a.KVHeads
		for c := range d {
			if x, w := got.vScale[pair*d+c], want.VScales.Row(b)[g*d+c]; x != w {
				return wrong(where, fmt.Sprintf("scale %v of value channel %d", x, c), fmt.Sprint(w))
			}
		}
		for j := range got.tiles * attentionKeys {
			inside, row := j < a.Keys, b*a.Keys+j
			if inside {
				x, w := got.kScale[(pair*got.tiles+j/attentionKeys)*4+j%8/2], want.KScales.Row(row)[g]
				if x != w {
					return wrong(where, fmt.Sprintf("scale %v of key %d", x, j), fmt.Sprint(w))
				}
			}
			for c := range d {
				k, v := got.k[pair*size+keyOffset(d, j, c)], got.v[pair*size+valueOffset(d, j, c)]
				if !inside {
					if k != 0 || v != 0 {
						return wrong(where, fmt.Sprintf("codes %#x and %#x beyond the last key, at (%d, %d)", k, v, j, c), "zeros")
					}
					continue
				}
				if x, w := value(k), want.K.Row(row)[g*d+c]; x != w {
					return wrong(where, fmt.Sprintf("code %v of key (%d, %d)", x, j, c), fmt.Sprint(w))
				}
				if x, w := tensor.E4M3Value(v), want.V.Row(row)[g*d+c]; x != w {
					return wrong(where, fmt.Sprintf("code %v of value (%d, %d)", x, j, c), fmt.Sprint(w))
				}
			}
		}
	}
	return nil
}
