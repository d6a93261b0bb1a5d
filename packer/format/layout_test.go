package format

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/packer"
	"quantize/tensor"
)

// Every nibble is where docs/formats.md says, by formulas that the packing code
// does not use.
func TestLayoutFormulas(t *testing.T) {
	const n, k, group = 40, 256, 128
	r := rand.New(rand.NewPCG(1, 2))
	w := &GroupedWeight{N: n, K: k, GroupSize: group, Codes: make([]uint32, n*k/8), Scales: make([]float32, n*k/group), Zeros: make([]uint8, n*k/group)}
	for i := range w.Codes {
		w.Codes[i] = r.Uint32()
	}
	for i := range w.Scales {
		w.Scales[i], w.Zeros[i] = float32(1+i), uint8(1+r.IntN(15))
	}
	u := func(row, col int) uint32 { return w.Codes[(row*k+col)/8] >> (4 * (col % 8)) & 15 }
	word := func(p Part, i int) uint32 { return binary.LittleEndian.Uint32(p.Data[4*i:]) }
	f16 := func(p Part, i int) float32 { return tensor.F16Value(binary.LittleEndian.Uint16(p.Data[2*i:])) }
	inverse := []int{0, 4, 1, 5, 2, 6, 3, 7} // of the AWQ order, as docs/formats.md 10 gives it

	gptq, awq := mustPack(t, GPTQ{GroupSize: group}, w), mustPack(t, AWQ{GroupSize: group}, w)
	for row := range n {
		for col := range k {
			if got := word(gptq[0], col/8*n+row) >> (4 * (col % 8)) & 15; got != u(row, col) {
				t.Fatalf("gptq code (%d, %d) is %d, want %d", row, col, got, u(row, col))
			}
			if got := word(awq[0], col*n/8+row/8) >> (4 * inverse[row%8]) & 15; got != u(row, col) {
				t.Fatalf("awq code (%d, %d) is %d, want %d", row, col, got, u(row, col))
			}
		}
		for g := range k / group {
			z, s := uint32(w.Zeros[row*(k/group)+g]), w.Scales[row*(k/group)+g]
			if got := word(gptq[1], g*n/8+row/8) >> (4 * (row % 8)) & 15; got != z-1 {
				t.Fatalf("gptq zero (%d, %d) is %d, want %d", row, g, got, z-1)
			}
			if got := word(awq[1], g*n/8+row/8) >> (4 * inverse[row%8]) & 15; got != z {
				t.Fatalf("awq zero (%d, %d) is %d, want %d", row, g, got, z)
			}
			if f16(gptq[2], g*n+row) != s || f16(awq[2], g*n+row) != s {
				t.Fatalf("scale (%d, %d)", row, g)
			}
		}
	}
	for col := range k {
		if got := word(gptq[3], col); got != uint32(col/group) {
			t.Fatalf("g_idx[%d] is %d", col, got)
		}
	}

	int4 := &packer.Int4Weight{N: n, K: k, GroupSize: group, Codes: w.Codes, Scales: make([]uint16, len(w.Scales)), FP8Activations: true}
	for i := range int4.Scales {
		int4.Scales[i] = tensor.BF16Bits(w.Scales[i])
	}
	static, err := Static(int4, 80, 7, true, tensor.BF16)
	if err != nil {
		t.Fatal(err)
	}
	parts := mustPack(t, W4A8AWQ{}, static)
	for row := range n {
		for col := range k {
			got := int8(parts[0].Data[row/2*k+col]>>(4*(row%2))<<4) >> 4 // sign of the nibble
			if int(got) != int(u(row, col))-8 {
				t.Fatalf("modelopt code (%d, %d) is %d, want %d", row, col, got, int(u(row, col))-8)
			}
		}
	}
	if got := math.Float32frombits(binary.LittleEndian.Uint32(parts[1].Data[4*5:])); got != w.Scales[5] {
		t.Errorf("modelopt scale 5 is %g, want %g", got, w.Scales[5])
	}
}

// Whatever the format, the weight decodes to the same values.
func TestDecode(t *testing.T) {
	const n, k = 8, 64
	r := rand.New(rand.NewPCG(3, 4))
	int4 := &packer.Int4Weight{N: n, K: k, GroupSize: 32, Codes: make([]uint32, n*k/8), Scales: make([]uint16, n*2)}
	for i := range int4.Codes {
		int4.Codes[i] = r.Uint32()
	}
	for i := range int4.Scales {
		int4.Scales[i] = tensor.BF16Bits(float32(1+i) / 64)
	}
	want := tensor.NewMatrix(n, k)
	int4.Decode(want, packer.WeightOnly)
	for _, f := range []Format{GPTQ{GroupSize: 32}, AWQ{GroupSize: 32}, Compressed{packer.W4A16, 32}} {
		w, err := f.Unpack(n, k, mustPack(t, f, int4))
		if err != nil {
			t.Fatal(err)
		}
		got := tensor.NewMatrix(n, k)
		w.Decode(got, packer.WeightOnly)
		for i := range want.Data {
			if got.Data[i] != want.Data[i] {
				t.Fatalf("%s: element %d is %g, want %g", f.Name(), i, got.Data[i], want.Data[i])
			}
		}
	}
	if (&FP8BlockWeight{}).ActivationBits() != 8 || (&FP8TensorWeight{}).ActivationBits() != 8 || (&GroupedWeight{}).ActivationBits() != 16 {
		t.Error("activation bits")
	}
}

// Blocks at the edges are smaller; every block is what rounding it alone gives.
func TestQuantizeFP8Block(t *testing.T) {
	const n, k = 300, 200
	r := rand.New(rand.NewPCG(5, 6))
	m := tensor.NewMatrix(n, k)
	for i := range m.Data {
		m.Data[i] = float32(r.NormFloat64())
	}
	m.Row(299)[199] = 1000 // dominates the last block only
	for col := range k {
		m.Row(5)[col] = 0
	}
	w, report, err := QuantizeFP8Block(m)
	if err != nil {
		t.Fatal(err)
	}
	got := tensor.NewMatrix(n, k)
	w.Decode(got, packer.Exact)
	amax := map[[2]int]float32{}
	for y := range n {
		for x, v := range m.Row(y) {
			at := [2]int{y / 128, x / 128}
			amax[at] = max(amax[at], float32(math.Abs(float64(v))))
		}
	}
	var sse, energy float64
	for y := range n {
		for x, v := range m.Row(y) {
			scale := amax[[2]int{y / 128, x / 128}] / 448
			want := tensor.E4M3Value(tensor.E4M3(v/scale)) * scale
			if got.Row(y)[x] != want {
				t.Fatalf("(%d, %d) is %g, want %g", y, x, got.Row(y)[x], want)
			}
			d := float64(v) - float64(want)
			sse, energy = sse+d*d, energy+float64(v)*float64(v)
		}
	}
	// The sums differ by their order only.
	if len(amax) != len(w.Scales) || report.Rows != n || math.Abs(report.SSE-sse) > 1e-9*sse || math.Abs(report.Energy-energy) > 1e-9*energy {
		t.Errorf("report %+v, want %g of %g", report, sse, energy)
	}
	zeros, _, err := QuantizeFP8Block(tensor.NewMatrix(3, 3))
	if err != nil || zeros.Scales[0] != 0x1p-126 || zeros.Codes[4] != 0 {
		t.Errorf("zeros: %+v, %v", zeros, err)
	}
	m.Row(1)[1] = float32(math.NaN())
	if _, _, err := QuantizeFP8Block(m); err == nil {
		t.Error("NaN accepted")
	}
}
