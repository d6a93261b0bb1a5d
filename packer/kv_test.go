package packer

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quantize/tensor"
)

func TestKVSchemeValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		s    KVScheme
		dim  int
		ok   bool
	}{
		{"nothing", KVScheme{}, 64, true},
		{"fp8", KVScheme{Format: KVFP8, FP8Queries: true}, 64, true},
		{"int4 of a whole odd head", KVScheme{Format: KVInt4}, 80, true},
		{"int4 groups", KVScheme{Format: KVInt4, GroupSize: 32, Symmetric: true, FP8Queries: true}, 96, true},
		{"one group", KVScheme{Format: KVInt4, GroupSize: 64}, 64, true},
		{"group does not divide", KVScheme{Format: KVInt4, GroupSize: 64}, 96, false},
		{"group above the head", KVScheme{Format: KVInt4, GroupSize: 64}, 32, false},
		{"other group", KVScheme{Format: KVInt4, GroupSize: 16}, 64, false},
		{"negative group", KVScheme{Format: KVInt4, GroupSize: -32}, 64, false},
		{"fp8 in groups", KVScheme{Format: KVFP8, GroupSize: 32}, 64, false},
		{"symmetric fp8", KVScheme{Format: KVFP8, Symmetric: true}, 64, false},
		{"queries alone", KVScheme{FP8Queries: true}, 64, false},
		{"unknown format", KVScheme{Format: 9}, 64, false},
		{"no head", KVScheme{}, 0, false},
	} {
		if err := c.s.Validate(c.dim); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestKVSchemeText(t *testing.T) {
	t.Parallel()
	for text, s := range map[string]KVScheme{
		"none": {}, "fp8": {Format: KVFP8},
		"int4 asymmetric, group 32":             {Format: KVInt4, GroupSize: 32},
		"int4 symmetric, fp8 queries":           {Format: KVInt4, Symmetric: true, FP8Queries: true},
		"int4 symmetric, group 64, fp8 queries": {Format: KVInt4, GroupSize: 64, Symmetric: true, FP8Queries: true},
	} {
		if s.String() != text {
			t.Errorf("%q, want %q", s.String(), text)
		}
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back KVScheme
		if err := json.Unmarshal(data, &back); err != nil || back != s {
			t.Errorf("%s reads as %+v, %v", data, back, err)
		}
	}
	var f KVFormat
	if err := f.UnmarshalText([]byte("int8")); err == nil {
		t.Error("int8 is a format")
	}
	if _, err := KVFormat(9).MarshalText(); err == nil {
		t.Error("format 9 has a name")
	}
}

// The argument object that vLLM and transformers read; nothing else may stand
// there, because its presence alone makes the cache FP8.
func TestCacheScheme(t *testing.T) {
	t.Parallel()
	if a := (KVScheme{Format: KVInt4}).CacheScheme(); a != nil {
		t.Errorf("int4 has kv_cache_scheme %+v", a)
	}
	got, err := json.Marshal(KVScheme{Format: KVFP8}.CacheScheme())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"actorder":null,"block_structure":null,"dynamic":false,"group_size":null,"num_bits":8,"observer":"minmax","observer_kwargs":{},"strategy":"tensor","symmetric":true,"type":"float"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// groups are vectors of magnitudes around 2^least to 2^most, equal signs and outliers among them.
func groups(t *rapid.T, least, most int) []float32 {
	n := rapid.IntRange(1, 130).Draw(t, "channels")
	unit := float32(math.Ldexp(1, rapid.IntRange(least, most).Draw(t, "magnitude")))
	shift := float32(rapid.IntRange(-2, 2).Draw(t, "offset"))
	x := make([]float32, n)
	for i := range x {
		x[i] = unit * (shift + float32(rapid.IntRange(-1000, 1000).Draw(t, "x"))/1000)
	}
	if rapid.Bool().Draw(t, "outlier") {
		x[0] *= 100
	}
	return x
}

func TestKV4IsTheNearestCode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := groups(t, -149, 100)
		codes, back := make([]int8, len(x)), make([]float32, len(x))
		s := EncodeKV4(codes, x)
		DecodeKV4(back, codes, s)
		if s < 0x1p-9 || tensor.RoundE4M3(s) != s {
			t.Fatalf("scale %v is no E4M3 value of at least 2^-9", s)
		}
		scale := float64(s)
		for i, v := range x {
			if codes[i] < -8 || codes[i] > 7 {
				t.Fatalf("code %d", codes[i])
			}
			switch d := math.Abs(float64(v) - float64(back[i])); {
			case v > 7.5*s && codes[i] == 7, v < -7.5*s && codes[i] == -8: // clipped
			case d > scale/2+0x1p-22*scale:
				t.Fatalf("%v in steps of %v becomes %v", v, s, back[i])
			}
		}
		top := float64(largestMagnitude(x))
		if normal := scale > 0x1p-6 && top <= 7*448; normal && top > 7.5*scale {
			t.Fatalf("scale %v clips %v", s, top)
		}
	})
}

// affineLimit is the documented bound of |x - x'|.
func affineLimit(x, lo, scale float64) float64 {
	rounded := 0x1p-11*max(math.Abs(lo), 0x1p-14) + 15*0x1p-11*scale
	return max(scale/2, rounded) + 0x1p-18*scale + 0x1p-24*math.Abs(x)
}

// checkAffine compares a finite group with what it becomes.
func checkAffine(t rapid.TB, x, back []float32, codes []uint8, scale, offset float32) {
	t.Helper()
	lo, hi := float64(slices.Min(x)), float64(slices.Max(x))
	top := max(math.Abs(lo), (hi-lo)/15)
	if scale != scale {
		if top < 65519 || slices.Max(codes) != 0 || slices.ContainsFunc(back, func(v float32) bool { return v == v }) {
			t.Fatalf("from %v to %v, scale %v, codes %v: %v", lo, hi, scale, codes, back)
		}
		return
	}
	step := max((hi-lo)/15, 0x1p-14)
	if top > 65521 || math.Abs(float64(scale)-step) > step*0x1.01p-11 || !isF16(scale) || !isF16(offset) {
		t.Fatalf("from %v to %v, scale %v, offset %v", lo, hi, scale, offset)
	}
	for i, v := range x {
		if d := math.Abs(float64(v) - float64(back[i])); codes[i] > 15 || d > affineLimit(float64(v), lo, float64(scale)) {
			t.Fatalf("%v in steps of %v from %v becomes %v, code %d", v, scale, offset, back[i], codes[i])
		}
	}
}

func isF16(v float32) bool {
	return math.Abs(float64(v)) <= 65504 && tensor.F16Value(tensor.F16Bits(v)) == v
}

func TestKV4AsymmetricIsTheNearestCode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := groups(t, -30, 20)
		codes, back := make([]uint8, len(x)), make([]float32, len(x))
		s, offset := EncodeKV4Asymmetric(codes, x)
		DecodeKV4Asymmetric(back, codes, s, offset)
		checkAffine(t, x, back, codes, s, offset)
	})
}

// Equal channels become what FP16 makes of them, or something nearer.
func TestKV4AsymmetricOfAConstant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := float32(math.Ldexp(float64(rapid.IntRange(-1<<12, 1<<12).Draw(t, "x")), rapid.IntRange(-40, 4).Draw(t, "exponent")))
		if v > 65504 || v < -65504 {
			return
		}
		x, codes := []float32{v, v, v}, make([]uint8, 3)
		s, offset := EncodeKV4Asymmetric(codes, x)
		DecodeKV4Asymmetric(x, codes, s, offset)
		limit := math.Abs(float64(v) - float64(tensor.F16Value(tensor.F16Bits(v))))
		for _, got := range x {
			if d := math.Abs(float64(v) - float64(got)); d > limit {
				t.Fatalf("%v becomes %v, FP16 is %v off", v, got, limit)
			}
		}
	})
}

// The zero of the group is no code: far from zero the step is that of the range
// alone, and both ends are kept. With an integer zero point the step was hi/15.
func TestKV4AsymmetricKeepsBothEnds(t *testing.T) {
	t.Parallel()
	x, codes := []float32{100, 100.5, 101, 101.5}, make([]uint8, 4)
	s, offset := EncodeKV4Asymmetric(codes, x)
	if offset != 100 || math.Abs(float64(s)-0.1) > 0x1p-11*0.1 {
		t.Fatalf("scale %v, offset %v", s, offset)
	}
	if diff := cmp.Diff([]uint8{0, 5, 10, 15}, codes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Rounding the offset by 4 steps leaves as many codes outside.
func TestKV4AsymmetricClampsBothEnds(t *testing.T) {
	t.Parallel()
	const step, ulp = 0x1p-14, 0x1p-10 // of FP16 at 1
	for _, c := range []struct {
		lo, offset float32
		want       []uint8
	}{
		{1 + ulp/4, 1, []uint8{4, 9, 15}},
		{1 + 3*ulp/4, 1 + ulp, []uint8{0, 1, 11}},
	} {
		codes := make([]uint8, 3)
		s, offset := EncodeKV4Asymmetric(codes, []float32{c.lo, c.lo + 5*step, c.lo + 15*step})
		if s != step || offset != c.offset {
			t.Errorf("scale %v, offset %v", s, offset)
		}
		if diff := cmp.Diff(c.want, codes); diff != "" {
			t.Errorf("from %v (-want +got):\n%s", c.lo, diff)
		}
	}
}

func TestKV8IsTheNearestValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := groups(t, -149, 100)
		codes, back := make([]uint8, len(x)), make([]float32, len(x))
		s := EncodeQuery8(codes, x)
		if static := KV8Scale(x); rapid.Bool().Draw(t, "static") {
			s = static
			EncodeKV8(codes, x, s)
		}
		DecodeKV8(back, codes, s)
		for i, v := range x {
			// Half a step of E4M3: 2^-4 of a normal value, 2^-10 of the scale below; quotient and product round in FP32.
			limit := max(math.Abs(float64(v))*0x1p-4, float64(s)*0x1p-10)*(1+0x1p-19) + 0x1p-149
			if d := math.Abs(float64(v) - float64(back[i])); d > limit {
				t.Fatalf("%v with scale %v becomes %v", v, s, back[i])
			}
		}
	})
}

// Exact ties go to the even code, in both halves of the range.
func TestKVTies(t *testing.T) {
	t.Parallel()
	x := []float32{0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7, -0.5, -1.5, -2.5, -6.5}
	want := []int8{0, 2, 2, 4, 4, 6, 6, 7, 0, -2, -2, -6}
	for _, unit := range []float32{1, 0x1p-6, 0.6875, 448} { // 0.6875 = 11/16, four bits
		scaled := make([]float32, len(x))
		for i, v := range x {
			scaled[i] = v * unit
		}
		codes := make([]int8, len(x))
		if s := EncodeKV4(codes, scaled); s != unit {
			t.Fatalf("scale %v, want %v", s, unit)
		}
		if diff := cmp.Diff(want, codes); diff != "" {
			t.Errorf("unit %v (-want +got):\n%s", unit, diff)
		}
	}
	x = []float32{-4, 11, 0.5, 1.5, -0.5, -1.5, 10.5}
	codes := make([]uint8, len(x))
	if s, offset := EncodeKV4Asymmetric(codes, x); s != 1 || offset != -4 {
		t.Fatalf("scale %v, offset %v", s, offset)
	}
	if diff := cmp.Diff([]uint8{0, 15, 4, 6, 4, 2, 14}, codes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKVHardGroups(t *testing.T) {
	t.Parallel()
	inf, nan, big := float32(math.Inf(1)), float32(math.NaN()), float32(math.MaxFloat32)
	for _, c := range []struct {
		name                  string
		x                     []float32
		symmetric, asymmetric []float32 // nil: NaN throughout
	}{
		{"zeros", []float32{0, float32(math.Copysign(0, -1))}, []float32{0, 0}, []float32{0, 0}},
		{"subnormal", []float32{0x1p-149, -0x1p-140}, []float32{0, 0}, []float32{0, 0}},
		{"half the smallest step", []float32{0x1p-10, -0x1.8p-9}, []float32{0, -0x1p-8}, []float32{0x1p-10, -0x1.8p-9}},
		{"below the subnormal scale's range", []float32{0x1.4p-6}, []float32{7 * 0x1p-9}, []float32{0x1.4p-6}},
		{"below FP16's normal step", []float32{1, 1 + 0x1p-12, 1 + 0x1p-14}, []float32{0.984375, 0.984375, 0.984375}, []float32{1, 1 + 0x1p-12, 1 + 0x1p-14}},
		{"beyond E4M3", []float32{4000, -30000}, []float32{7 * 448, -8 * 448}, []float32{4000, -30000}},
		{"all above zero", []float32{15, 14, 14.4}, []float32{15.75, 13.5, 13.5}, []float32{15, 14, 14.4}},
		{"all below zero", []float32{-15, -14, -14.4}, []float32{-15.75, -13.5, -13.5}, []float32{-15, -14, -14.4}},
		{"all of FP16", []float32{65504, -65504}, []float32{7 * 448, -8 * 448}, []float32{65504, -65504}},
		{"the offset's last value", []float32{65519}, []float32{7 * 448}, []float32{65504}},
		{"above FP16 but in its range", []float32{900000, -60000}, []float32{7 * 448, -8 * 448}, []float32{900000, -60000}},
		{"offset beyond FP16", []float32{0, -65520}, []float32{0, -8 * 448}, nil},
		{"far from zero beyond FP16", []float32{65520, 65520}, []float32{7 * 448, 7 * 448}, nil},
		{"scale beyond FP16", []float32{0, 15 * 65520}, []float32{0, 7 * 448}, nil},
		{"infinite range", []float32{big, -big}, []float32{7 * 448, -8 * 448}, nil},
		{"NaN", []float32{1, nan, 2}, nil, nil},
		{"infinity", []float32{1, inf}, nil, nil},
		{"minus infinity", []float32{-inf, 3}, nil, nil},
	} {
		check := func(which string, got, want []float32) {
			t.Helper()
			for i, v := range got {
				if want == nil {
					if v == v {
						t.Errorf("%s, %s: element %d is %v, want NaN", c.name, which, i, v)
					}
				} else if math.Abs(float64(v)-float64(want[i])) > 0.004*math.Abs(float64(want[i])) { // the scale's FP16, and 15 of it
					t.Errorf("%s, %s: element %d is %v, want %v", c.name, which, i, v, want[i])
				}
			}
		}
		back := make([]float32, len(c.x))
		codes := make([]int8, len(c.x))
		DecodeKV4(back, codes, EncodeKV4(codes, c.x))
		check("symmetric", back, c.symmetric)
		unsigned := make([]uint8, len(c.x))
		s, offset := EncodeKV4Asymmetric(unsigned, c.x)
		DecodeKV4Asymmetric(back, unsigned, s, offset)
		check("asymmetric", back, c.asymmetric)
	}
}

func TestKV8HardValues(t *testing.T) {
	t.Parallel()
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	x, back := []float32{1000, -1000, 448, inf, 0, nan}, make([]float32, 6)
	codes := make([]uint8, 6)
	EncodeKV8(codes, x, 1)
	DecodeKV8(back, codes, 1)
	if diff := cmp.Diff([]float32{448, -448, 448, 448, 0}, back[:5]); diff != "" || back[5] == back[5] {
		t.Errorf("%v (-want +got):\n%s", back[5], diff)
	}
	if s := KV8Scale(make([]float32, 3)); s != 1 {
		t.Errorf("scale of zeros is %v", s)
	}
	if s := EncodeQuery8(codes[:2], make([]float32, 2)); s != 0x1p-126 || codes[0] != 0 {
		t.Errorf("query of zeros: scale %v, code %d", s, codes[0])
	}
	for _, bad := range []float32{inf, nan} {
		q := []float32{1, bad}
		DecodeKV8(q, codes[:2], EncodeQuery8(codes[:2], q))
		if q[0] == q[0] || q[1] == q[1] {
			t.Errorf("a query with %v becomes %v", bad, q)
		}
	}
}

// Any bits are a group: codes stay in range, a NaN or an infinity shows, the
// nearest code is taken otherwise.
func FuzzKVCodecs(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0})
	f.Add([]byte{0, 0, 0xc0, 0x7f})
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0x7f, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		x := make([]float32, len(data)/4)
		if err := tensor.Decode(x, data[:4*len(x)], tensor.F32); err != nil {
			t.Fatal(err)
		}
		finite := true
		for _, v := range x {
			finite = finite && math.Abs(float64(v)) <= math.MaxFloat32
		}
		codes, unsigned, back := make([]int8, len(x)), make([]uint8, len(x)), make([]float32, len(x))
		s := EncodeKV4(codes, x)
		DecodeKV4(back, codes, s)
		for i, v := range x {
			d := math.Abs(float64(v) - float64(back[i]))
			clipped := math.Abs(float64(v)) > 7.5*float64(s)
			if finite != (back[i] == back[i]) || finite && !clipped && d > float64(s)*(0.5+0x1p-22) {
				t.Fatalf("symmetric, scale %v: %v becomes %v", s, v, back[i])
			}
		}
		if len(x) == 0 {
			return
		}
		a, offset := EncodeKV4Asymmetric(unsigned, x)
		DecodeKV4Asymmetric(back, unsigned, a, offset)
		if finite {
			checkAffine(t, x, back, unsigned, a, offset)
		}
		for _, v := range back {
			if !finite && v == v {
				t.Fatalf("asymmetric: %v becomes %v", x, back)
			}
		}
	})
}
