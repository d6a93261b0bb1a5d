//go:build cuda

package cuda

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"quantize/packer"
	"quantize/tensor"
)

// weightOf has random codes low (-8 or -7) ..7 and the scales of scale(n, group).
func weightOf(r *rand.Rand, n, k, group, low int, scale func(n, group int) float32) *packer.Int4Weight {
	w := &packer.Int4Weight{N: n, K: k, GroupSize: group, Codes: make([]uint32, n*k/8), Scales: make([]uint16, n*k/group), FP8Activations: true}
	for i := range w.Codes {
		word := r.Uint32()
		if zero := (word - 0x11111111) & ^word & 0x88888888; low == -7 && zero != 0 {
			for j := range 8 { // -8 becomes 0
				if word>>(4*j)&15 == 0 {
					word |= 8 << (4 * j)
				}
			}
		}
		w.Codes[i] = word
	}
	for i := range w.Scales {
		w.Scales[i] = uint16(math.Float32bits(scale(i/(k/group), i%(k/group))) >> 16)
	}
	return w
}

func logNormal(r *rand.Rand) func(n, group int) float32 {
	return func(int, int) float32 { return float32(0.01 * math.Exp(0.4*r.NormFloat64())) }
}

// checkRepack compares the units and channel factors of both packers.
func checkRepack(s *Session) error {
	r := rand.New(rand.NewPCG(2, 1))
	for i, c := range []struct{ n, k, group, low int }{
		{64, 128, 128, -7}, {1, 128, 128, -8}, {300, 640, 128, -8}, {256, 192, 64, -7}, {129, 576, 64, -8}, {512, 1024, 128, -7}, {70, 256, 128, -8},
	} {
		scale := logNormal(r)
		if c.n == 300 || c.n == 70 { // below the floor, zero, and far apart
			scale = func(n, group int) float32 { return float32(math.Ldexp(float64(n%3), -4*group-n%11)) }
		}
		w := weightOf(r, c.n, c.k, c.group, c.low, scale)
		a := []packer.Arithmetic{packer.Exact, packer.LUT}[i%2]
		want, err := Pack(w, a)
		if err != nil {
			return err
		}
		d, err := s.PackOnDevice(w, a, nil)
		if err != nil {
			return err
		}
		units, channel := make([]byte, len(want.Units)), make([]float32, len(want.Channel))
		if err := Download(s, units, d.Units); err != nil {
			return err
		}
		if err := Download(s, channel, d.Channel); err != nil {
			return err
		}
		where := fmt.Sprintf("weight (%d, %d), groups of %d", c.n, c.k, c.group)
		if d.Codes != want.Codes {
			return wrong(where, d.Codes.String(), want.Codes.String())
		}
		if !bytes.Equal(units, want.Units) {
			for i, b := range units {
				if b != want.Units[i] {
					return wrong(fmt.Sprintf("%s, byte %d (of a unit: %d)", where, i, i%unitBytes(c.group)), fmt.Sprint(b), fmt.Sprint(want.Units[i]))
				}
			}
		}
		if !slices.Equal(channel, want.Channel) {
			return wrong(where, "other channel factors", "those of Pack")
		}
		if err := d.Free(s); err != nil {
			return err
		}
	}
	return nil
}

// rounded uploads x, rounds it on the card and downloads the codes.
func (s *Session) rounded(x, second []float32, m, k int, before Before) (codes []uint8, token []float32, err error) {
	a, err := s.NewActivations(m, k)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = a.Free(s) }()
	in := Inputs{Before: before, Epsilon: 1e-5}
	if in.X, err = AllocOf(s, x); err != nil {
		return nil, nil, err
	}
	defer func() { _ = s.Free(in.X) }()
	if second != nil {
		if in.Second, err = AllocOf(s, second); err != nil {
			return nil, nil, err
		}
		defer func() { _ = s.Free(in.Second) }()
	}
	if err := s.Fill(a.Codes, 0); err != nil {
		return nil, nil, err
	}
	if err := s.Quantize(a, in, false); err != nil {
		return nil, nil, err
	}
	codes, token = make([]uint8, a.Codes.Bytes), make([]float32, m)
	if err := Download(s, codes, a.Codes); err != nil {
		return nil, nil, err
	}
	return codes, token, Download(s, token, a.Token)
}

// checkQuantize demands equal codes and token scales, on data that meets ties,
// subnormals, the floor, infinities and NaN; BF16 inputs are the same values.
func checkQuantize(s *Session) error {
	r := rand.New(rand.NewPCG(3, 1))
	fills := map[string]func(i int) float32{
		"normal":    func(int) float32 { return float32(r.NormFloat64()) },
		"zeros":     func(int) float32 { return 0 },
		"spread":    func(int) float32 { return float32(math.Ldexp(r.Float64()-0.5, -r.IntN(30))) },
		"ties":      func(i int) float32 { return float32(i%57) * 0x1p-4 * 7 },
		"floor":     func(int) float32 { return float32(r.NormFloat64() / 4096) },
		"subnormal": func(int) float32 { return math.Float32frombits(uint32(r.IntN(1 << 23))) },
		"NaN": func(i int) float32 {
			if i%301 == 0 {
				return float32(math.NaN())
			}
			return float32(r.NormFloat64())
		},
		"infinity": func(i int) float32 {
			if i == 700 {
				return float32(math.Inf(-1))
			}
			return float32(r.NormFloat64())
		},
	}
	for name, fill := range fills {
		for _, shape := range [][2]int{{1, 128}, {5, 64}, {3, 576}, {9, 4096}, {2, 14336}, {2, 28672}} {
			m, k := shape[0], shape[1]
			x := make([]float32, m*k)
			for i := range x {
				x[i] = fill(i)
			}
			codes, token, err := s.rounded(x, nil, m, k, Nothing)
			if err != nil {
				return err
			}
			where := fmt.Sprintf("%s, M %d, K %d", name, m, k)
			if err := sameActivations(where, codes, token, tensor.MatrixOf(m, k, x), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameActivations compares with the twin. Up to `steps` places of a thousand may
// be one code off, where the values themselves were computed with roundings.
func sameActivations(where string, codes []uint8, token []float32, x tensor.Matrix, steps int) error {
	wantCodes, wantToken := PackActivations(x)
	rows, off := paddedRows(x.Rows), 0
	for m := range token {
		if d := math.Abs(float64(token[m]/wantToken[m]) - 1); token[m] != wantToken[m] && (steps == 0 || d > 1e-5) {
			return wrong(fmt.Sprintf("%s, scale of token %d", where, m), fmt.Sprint(token[m]), fmt.Sprint(wantToken[m]))
		}
		for k := range ceilDiv(x.Cols, slab) * slab {
			at := activationOffset(m, k, rows)
			got, want := codes[at], wantCodes[at]
			if got == want || got&0x7F == 0x7F && want&0x7F == 0x7F {
				continue
			}
			if d := int(got) - int(want); steps > 0 && (d == 1 || d == -1) {
				off++
				continue
			}
			return wrong(fmt.Sprintf("%s, token %d, k %d", where, m, k), fmt.Sprintf("code %#02x", got), fmt.Sprintf("%#02x", want))
		}
	}
	if off*1000 > steps*x.Rows*x.Cols {
		return wrong(where, fmt.Sprintf("%d codes of %d one off", off, x.Rows*x.Cols), fmt.Sprintf("at most %d in 1000", steps))
	}
	return nil
}

// checkFusedQuantize compares the fused forms with the float64 formulas, rounded
// to FP32: a code may be one off where FP32 lands on the other side of a tie.
func checkFusedQuantize(s *Session) error {
	r := rand.New(rand.NewPCG(4, 1))
	for _, k := range []int{256, 4096, 14336} {
		const m = 5
		x, second, want := make([]float32, m*k), make([]float32, m*k), make([]float32, m*k)
		for i := range x {
			x[i], second[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
		}
		for i := range m {
			squares := 0.0
			for _, v := range x[i*k : (i+1)*k] {
				squares += float64(v) * float64(v)
			}
			scale := 1 / math.Sqrt(squares/float64(k)+1e-5)
			for j := range k {
				want[i*k+j] = float32(float64(x[i*k+j]) * scale * float64(second[j]))
			}
		}
		codes, token, err := s.rounded(x, second[:k], m, k, RMSNorm)
		if err != nil {
			return err
		}
		if err := sameActivations(fmt.Sprintf("RMSNorm, K %d", k), codes, token, tensor.MatrixOf(m, k, want), 2); err != nil {
			return err
		}
		for i, g := range x {
			want[i] = float32(float64(g) / (1 + math.Exp(-float64(g))) * float64(second[i]))
		}
		if codes, token, err = s.rounded(x, second, m, k, SiLU); err != nil {
			return err
		}
		if err := sameActivations(fmt.Sprintf("SiLU, K %d", k), codes, token, tensor.MatrixOf(m, k, want), 2); err != nil {
			return err
		}
	}
	return nil
}
