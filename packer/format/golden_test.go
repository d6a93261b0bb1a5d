package format

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quantize/checkpoint"
	"quantize/packer"
	"quantize/tensor"
)

// The golden vectors of docs/formats.md, section 15, by their number there.

// rows makes a symmetric INT4 weight of 32 input features, scale 1, whose rows
// begin with the codes given; the rest is 0.
func rows(n int, begin func(row int) []int) *GroupedWeight {
	w := &GroupedWeight{N: n, K: 32, GroupSize: 32, Codes: make([]uint32, n*4), Scales: make([]float32, n)}
	for r := range n {
		w.Scales[r] = 1
		q := begin(r)
		for k := range 32 {
			u := uint32(8)
			if k < len(q) {
				u = uint32(q[k] + 8)
			}
			w.Codes[r*4+k/8] |= u << (4 * (k % 8))
		}
	}
	return w
}

func mustPack(t testing.TB, f Format, w packer.Weight) []Part {
	t.Helper()
	parts, err := f.Pack(w)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestGolden1CompressedAndGPTQWord(t *testing.T) {
	w := rows(8, func(int) []int { return []int{-8, -7, -1, 0, 1, 2, 6, 7} })
	want := []byte{0x10, 0x87, 0xa9, 0xfe}
	for name, data := range map[string][]byte{
		"compressed-tensors": mustPack(t, Compressed{packer.W4A16, 32}, w)[0].Data,
		"gptq":               mustPack(t, GPTQ{GroupSize: 32}, w)[0].Data,
	} {
		if !bytes.Equal(data[:4], want) {
			t.Errorf("%s: % x, want % x", name, data[:4], want)
		}
		if word := int32(binary.LittleEndian.Uint32(data)); word != -22444272 {
			t.Errorf("%s: word %d", name, word)
		}
	}
}

// Zero points show the order of the columns without eight rows of codes.
func TestGolden2AWQWord(t *testing.T) {
	u := []int{0, 1, 7, 8, 9, 10, 14, 15}
	w := rows(8, func(r int) []int { return []int{u[r] - 8} })
	w.Zeros = make([]uint8, 8)
	for i, z := range u {
		w.Zeros[i] = uint8(z)
	}
	parts := mustPack(t, AWQ{GroupSize: 32}, w)
	want := []byte{0x70, 0xe9, 0x81, 0xfa}
	for i, what := range []string{"qweight", "qzeros"} {
		if !bytes.Equal(parts[i].Data[:4], want) {
			t.Errorf("%s: % x, want % x", what, parts[i].Data[:4], want)
		}
	}
}

func TestGolden3ModelOptByte(t *testing.T) {
	w := &packer.Int4Weight{N: 2, K: 128, GroupSize: 128, Codes: make([]uint32, 32), Scales: []uint16{0x3f80, 0x3f80}, FP8Activations: true}
	for i := range 32 {
		w.Codes[i] = 0x88888888
	}
	w.Codes[0], w.Codes[16] = 0x88888880, 0x8888888f // -8 and 7
	s, err := Static(w, 1, 448, true, tensor.BF16)
	if err != nil {
		t.Fatal(err)
	}
	data := mustPack(t, W4A8AWQ{}, s)[0].Data
	if data[0] != 0x78 || data[1] != 0 || len(data) != 128 {
		t.Errorf("%x %x, %d bytes; want 78 00, 128", data[0], data[1], len(data))
	}
	if s.InputScale != 1 || s.WeightScale2 != 0x1p-5 {
		t.Errorf("input_scale %g, weight_scale_2 %g", s.InputScale, s.WeightScale2)
	}
}

func TestGolden4GPTQZeros(t *testing.T) {
	w := rows(8, func(int) []int { return []int{1} })
	for f, want := range map[GPTQ]uint32{{GroupSize: 32}: 0x77777777, {GroupSize: 32, V2: true}: 0x88888888} {
		if got := binary.LittleEndian.Uint32(mustPack(t, f, w)[1].Data); got != want {
			t.Errorf("%+v: %08x, want %08x", f, got, want)
		}
	}
}

func TestGolden5FP8(t *testing.T) {
	for _, c := range []struct {
		x          float32
		e4m3, e5m2 uint8
	}{{1, 0x38, 0x3c}, {-1, 0xb8, 0xbc}, {448, 0x7e, 0x5f}, {0x1p-6, 0x08, 0x24}, {0x1p-9, 0x01, 0x18}, {0, 0, 0}} {
		if got := tensor.E4M3(c.x); got != c.e4m3 {
			t.Errorf("e4m3(%g) = %#x, want %#x", c.x, got, c.e4m3)
		}
		if got := tensor.E5M2(c.x); got != c.e5m2 {
			t.Errorf("e5m2(%g) = %#x, want %#x", c.x, got, c.e5m2)
		}
	}
	if v := tensor.E4M3Value(0x7f); v == v {
		t.Errorf("0x7f is %g, not NaN", v)
	}
	if tensor.E5M2(57344) != 0x7b {
		t.Error("e5m2(57344)")
	}
}

func TestGolden6BF16(t *testing.T) {
	data := make([]byte, 6)
	if err := tensor.Encode(data, []float32{1, 1 + 0x1p-8, 1 + 0x3p-8}, tensor.BF16); err != nil {
		t.Fatal(err)
	}
	// 1 + 2^-8 and 1 + 3·2^-8 lie half way: the even neighbour wins.
	if !bytes.Equal(data, []byte{0x80, 0x3f, 0x80, 0x3f, 0x82, 0x3f}) {
		t.Errorf("% x", data)
	}
}

// The rounding of vector 7 (amax/7.5) is compressed-tensors' own; this program
// chooses scales on the grid of package packer. What the stored codes mean is
// the same.
func TestGolden7Codes(t *testing.T) {
	w := rows(1, func(int) []int { return []int{7, -8, 0, 2} })
	m := tensor.NewMatrix(1, 32)
	w.Decode(m, packer.WeightOnly)
	if !slices.Equal(m.Data[:5], []float32{7, -8, 0, 2, 0}) {
		t.Errorf("%v", m.Data[:5])
	}
}

func TestGolden8Header(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	w, err := checkpoint.Create(dir, []checkpoint.Info{{Name: "a.weight_shape", DType: tensor.I64, Shape: []int{2}}}, checkpoint.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add("a.weight_shape", make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"format":"pt"},"a.weight_shape":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}`
	size := (8+len(header)+7)/8*8 - 8
	if n := int(binary.LittleEndian.Uint64(data)); n != size || len(data) != 8+size+16 {
		t.Fatalf("header of %d bytes in a file of %d, want %d", n, len(data), size)
	}
	if got := string(bytes.TrimRight(data[8:8+size], " ")); got != header {
		t.Errorf("%s", got)
	}
}
