package format

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quantize/packer"
	"quantize/tensor"
)

// random draws INT4 groups whose scales have the significant bits and exponents
// given.
func random(t *rapid.T, group int, zeros bool, bits int, lowest, highest int) *GroupedWeight {
	n, groups := 8*rapid.IntRange(1, 5).Draw(t, "n/8"), rapid.IntRange(1, 3).Draw(t, "groups")
	w := &GroupedWeight{N: n, K: group * groups, GroupSize: group, Codes: make([]uint32, n*group*groups/8), Scales: make([]float32, n*groups)}
	seed := rapid.Uint64().Draw(t, "seed")
	next := func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 33 }
	for i := range w.Codes {
		w.Codes[i] = uint32(next() ^ next()<<15)
	}
	for i := range w.Scales {
		m := 1<<(bits-1) + int(next())%(1<<(bits-1))
		w.Scales[i] = float32(math.Ldexp(float64(m), 1-bits+lowest+int(next())%(highest-lowest+1)))
	}
	if zeros {
		w.Zeros = make([]uint8, n*groups)
		for i := range w.Zeros {
			w.Zeros[i] = uint8(1 + next()%15)
		}
	}
	return w
}

// Packing and unpacking loses nothing, in any format, and does not touch its
// argument.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, group := range []int{32, 64, 128} {
		for _, c := range []struct {
			f     Format
			zeros bool
			bits  int
		}{
			{GPTQ{GroupSize: group}, false, 11},
			{GPTQ{GroupSize: group}, true, 11},
			{GPTQ{GroupSize: group, V2: true}, true, 11},
			{AWQ{GroupSize: group}, false, 11},
			{AWQ{GroupSize: group}, true, 11},
			{Compressed{packer.W4A16, group}, false, 8},
			{Compressed{packer.W4A8, group}, false, 8},
		} {
			t.Run(fmt.Sprintf("%+v zeros %v", c.f, c.zeros), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(t *rapid.T) {
					w := random(t, group, c.zeros, c.bits, -14, 3)
					codes := append([]uint32{}, w.Codes...)
					parts, err := c.f.Pack(w)
					if err != nil {
						t.Fatal(err)
					}
					checkParts(t, c.f, w, parts)
					got, err := c.f.Unpack(w.N, w.K, parts)
					if err != nil {
						t.Fatal(err)
					}
					if err := Same(w, got); err != nil {
						t.Fatal(err)
					}
					if g := grouped(got); !reflect.DeepEqual(g.Zeros, w.Zeros) || !reflect.DeepEqual(g.Scales, w.Scales) || !reflect.DeepEqual(codes, w.Codes) {
						t.Fatal("zero points, scales or the argument changed")
					}
				})
			})
		}
	}
}

func checkParts(t *rapid.T, f Format, w packer.Weight, parts []Part) {
	n, k := w.Shape()
	fields := f.Fields(n, k)
	if len(parts) != len(fields) {
		t.Fatalf("%d parts, %d fields", len(parts), len(fields))
	}
	infos := Tensors(f, "m", n, k, parts)
	for i, info := range infos {
		if int64(len(parts[i].Data)) != info.Bytes() || info.DType != fields[i].DTypes[0] {
			t.Fatalf("%s: %d bytes of %v, want %d of %v", info.Name, len(parts[i].Data), info.DType, info.Bytes(), fields[i].DTypes[0])
		}
	}
}

func TestRoundTripModelOpt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := random(t, 128, false, 8, -9, 3)
		w := &packer.Int4Weight{N: g.N, K: g.K, GroupSize: 128, Codes: g.Codes, FP8Activations: true, Scales: make([]uint16, len(g.Scales))}
		var largest float32
		for i, s := range g.Scales {
			w.Scales[i] = tensor.BF16Bits(s)
			largest = max(largest, s)
		}
		s, err := Static(w, largest, 3, rapid.Bool().Draw(t, "ones"), tensor.BF16)
		if err != nil {
			t.Fatal(err)
		}
		// No product leaves E4M3, and the power of two wastes less than a factor of two.
		if top := 8 * largest / s.WeightScale2; top > 448 || top <= 224 {
			t.Fatalf("largest product is %g of weight_scale_2", top)
		}
		parts, err := W4A8AWQ{}.Pack(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := W4A8AWQ{}.Unpack(s.N, s.K, parts)
		if err != nil {
			t.Fatal(err)
		}
		if !s.unscaled() || s.ActivationBits() != 8 {
			t.Fatal("ones are not one")
		}
		want := *s
		want.DType = parts[4].DType
		if !reflect.DeepEqual(&want, got) {
			t.Fatalf("%+v\n%+v", &want, got)
		}
	})
}

func TestRoundTripFP8(t *testing.T) {
	const n, k = 130, 200
	codes := make([]uint8, n*k)
	for i := range codes {
		codes[i] = uint8(i % 127)
	}
	scales := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = 0.3 + float32(i)/7
		}
		return s
	}
	for _, c := range []struct {
		f Format
		w packer.Weight
	}{
		{FP8Rows{}, &packer.FP8Weight{N: n, K: k, Codes: codes, Scales: scales(n)}},
		{Compressed{Scheme: packer.FP8}, &packer.FP8Weight{N: n, K: k, Codes: codes, Scales: scales(n)}},
		{FP8Static{}, &FP8TensorWeight{N: n, K: k, Codes: codes, Scale: 0.1, InputScale: 0.2}},
		{FP8Block{}, &FP8BlockWeight{N: n, K: k, Codes: codes, Scales: scales(4)}},
		{Compressed{}, &FP8BlockWeight{N: n, K: k, Codes: codes, Scales: scales(4)}},
	} {
		got, err := c.f.Unpack(n, k, mustPack(t, c.f, c.w))
		if err != nil || !reflect.DeepEqual(c.w, got) {
			t.Errorf("%T: %v", c.f, err)
		}
	}
}

// What a format cannot hold is refused with the reason, and never rounded.
func TestRefuses(t *testing.T) {
	good := func() *GroupedWeight { return rows(8, func(int) []int { return []int{1, 2, 3} }) }
	change := func(f func(w *GroupedWeight)) *GroupedWeight { w := good(); f(w); return w }
	int4 := func(group int, fp8 bool) *packer.Int4Weight {
		return &packer.Int4Weight{N: 8, K: 128, GroupSize: group, Codes: make([]uint32, 128), Scales: make([]uint16, 1024/group), FP8Activations: fp8}
	}
	scaled, err := Static(int4(128, true), 1, 1, true, tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	scaled.PreQuantScale[3] ^= 1
	fp8 := &packer.FP8Weight{N: 8, K: 32, Codes: make([]uint8, 256), Scales: []float32{1, 1, 1, 1, 1, 1, 1, 1}}
	for _, c := range []struct {
		name string
		f    Format
		w    packer.Weight
		says string
	}{
		{"scale below F16", GPTQ{GroupSize: 32}, change(func(w *GroupedWeight) { w.Scales[3] = 0x1.02p-18 }), "1 of 8 that are not exact in F16, first row 3, group 0"},
		{"scale above F16", AWQ{GroupSize: 32}, change(func(w *GroupedWeight) { w.Scales[5] = 1e6 }), "row 5, group 0: 1e+06"},
		{"scale of 12 bits", AWQ{GroupSize: 32}, change(func(w *GroupedWeight) { w.Scales[0] = 1 + 0x1p-11 }), "not exact in F16"},
		{"scale of 9 bits", Compressed{packer.W4A16, 32}, change(func(w *GroupedWeight) { w.Scales[0] = 1 + 0x1p-8 }), "wanted values of BF16"},
		{"zero point 0 in version 1", GPTQ{GroupSize: 32}, change(func(w *GroupedWeight) { w.Zeros = make([]uint8, 8) }), "zero point 0 in row 0"},
		{"zero points", Compressed{packer.W4A16, 32}, change(func(w *GroupedWeight) { w.Zeros = make([]uint8, 8) }), "wanted symmetric"},
		{"another group size", GPTQ{GroupSize: 128}, good(), "groups of 32, wanted groups of 128"},
		{"16 in a group", GPTQ{GroupSize: 16}, change(func(w *GroupedWeight) { w.GroupSize = 16 }), "groups of 16"},
		{"four rows", AWQ{GroupSize: 32}, rows(4, func(int) []int { return nil }), "N in eights"},
		{"FP8 as INT4", GPTQ{GroupSize: 32}, fp8, "FP8 with a scale per output channel, wanted INT4"},
		{"INT4 as FP8", FP8Rows{}, good(), "INT4, groups of 32, wanted FP8"},
		{"rows as blocks", FP8Block{}, fp8, "wanted FP8 in blocks"},
		{"rows as one scale", FP8Static{}, fp8, "wanted FP8 with one scale"},
		{"not static", W4A8AWQ{}, int4(128, true), "wanted INT4 with static"},
		{"pre_quant_scale", AWQ{GroupSize: 128}, scaled, "pre_quant_scale other than 1"},
	} {
		parts, err := c.f.Pack(c.w)
		if !errors.Is(err, ErrRepresent) || parts != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", c.name, parts != nil, err)
		}
	}
	for name, w := range map[string]*packer.Int4Weight{"groups of 64": int4(64, true), "weight-only": int4(128, false)} {
		if _, err := Static(w, 1, 1, true, tensor.BF16); !errors.Is(err, ErrRepresent) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, amax := range []float32{float32(math.NaN()), float32(math.Inf(1)), -1} {
		if _, err := Static(int4(128, true), 1, amax, true, tensor.BF16); !errors.Is(err, packer.ErrInvalid) {
			t.Errorf("amax %g: %v", amax, err)
		}
	}
}

// A group of zeros multiplies nothing, so its scale need not be kept: it may be
// below F16, as that of a dead row is.
func TestEmptyGroupsTakeAnyScale(t *testing.T) {
	w := rows(8, func(r int) []int {
		if r == 2 || r == 4 {
			return nil
		}
		return []int{1}
	})
	w.Scales[2], w.Scales[4] = 0x1p-30, 1e9
	for _, f := range []Format{GPTQ{GroupSize: 32}, AWQ{GroupSize: 32}} {
		got, err := f.Unpack(8, 32, mustPack(t, f, w))
		if err != nil {
			t.Fatal(err)
		}
		g := grouped(got)
		if g.Scales[2] != 0x1p-14 || g.Scales[4] != 65504 || Same(w, got) != nil {
			t.Errorf("%s: scales %g, %g, %v", f.Name(), g.Scales[2], g.Scales[4], Same(w, got))
		}
	}
}

// A negative control: Same must see one changed bit of anything.
func TestSameSeesEveryBit(t *testing.T) {
	w := rows(8, func(int) []int { return []int{1, 2, 3} })
	for name, change := range map[string]func(w *GroupedWeight){
		"code":  func(w *GroupedWeight) { w.Codes[5] ^= 1 << 13 },
		"scale": func(w *GroupedWeight) { w.Scales[7] = math.Nextafter32(w.Scales[7], 2) },
		"zero":  func(w *GroupedWeight) { w.Zeros = []uint8{8, 8, 8, 7, 8, 8, 8, 8} },
		"shape": func(w *GroupedWeight) { w.N, w.K = w.K, w.N },
	} {
		o := rows(8, func(int) []int { return []int{1, 2, 3} })
		change(o)
		if err := Same(w, o); !errors.Is(err, errDiffers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := &FP8BlockWeight{N: 1, K: 1, Codes: []uint8{1}, Scales: []float32{1}}
	for _, b := range []packer.Weight{
		&FP8BlockWeight{N: 1, K: 1, Codes: []uint8{2}, Scales: []float32{1}},
		&FP8BlockWeight{N: 1, K: 1, Codes: []uint8{1}, Scales: []float32{2}},
		&packer.FP8Weight{N: 1, K: 1, Codes: []uint8{1}, Scales: []float32{1}}, w,
	} {
		if err := Same(a, b); !errors.Is(err, errDiffers) {
			t.Errorf("%T: %v", b, err)
		}
	}
}
