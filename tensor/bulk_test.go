package tensor

import (
	"encoding/binary"
	"math"
	"testing"

	"pgregory.net/rapid"
)

var floats = []DType{F64, F32, F16, BF16, F8E4M3, F8E5M2}

func encodeOne(x float32, d DType) []byte {
	switch d {
	case F64:
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(float64(x)))
	case F32:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(x))
	case F16:
		return binary.LittleEndian.AppendUint16(nil, F16Bits(x))
	case BF16:
		return binary.LittleEndian.AppendUint16(nil, BF16Bits(x))
	case F8E4M3:
		return []byte{E4M3(x)}
	default:
		return []byte{E5M2(x)}
	}
}

// eachPath runs test for plain Go and, where there is assembly, for that.
func eachPath(t *testing.T, test func(t *testing.T, vectors bool)) {
	t.Run("plain", func(t *testing.T) { t.Parallel(); test(t, false) })
	if hasVectors() {
		t.Run("vectors", func(t *testing.T) { t.Parallel(); test(t, true) })
	}
}

// Bulk and scalar agree for every length and alignment, NaN among the values,
// and nothing outside the slices is touched.
func TestEncodeIsTheScalarCodec(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, vectors bool) {
		rapid.Check(t, func(t *rapid.T) { checkEncode(t, vectors) })
	})
}

func checkEncode(t *rapid.T, vectors bool) {
	d := rapid.SampledFrom(floats).Draw(t, "dtype")
	bits := rapid.SliceOfN(rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{
		0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF,
	})), 0, 133).Draw(t, "bits")
	skip := rapid.IntRange(0, 8).Draw(t, "skip")
	src := make([]float32, skip+len(bits))[skip:]
	var want []byte
	for i, b := range bits {
		src[i] = math.Float32frombits(b)
		want = append(want, encodeOne(src[i], d)...)
	}
	const guard = 0xA5
	buf := make([]byte, skip+len(want)+16)[skip:]
	for i := range buf {
		buf[i] = guard
	}
	encode(buf[8:len(buf)-8], src, d, vectors)
	for i, b := range buf {
		if in := i >= 8 && i < len(buf)-8; in && b != want[i-8] || !in && b != guard {
			t.Fatalf("%v: byte %d is %#x", d, i-8, b)
		}
	}
	back := make([]float32, len(src)+2)
	decode(back[1:len(src)+1], want, d, vectors)
	again := make([]byte, len(want))
	encode(again, back[1:len(src)+1], d, vectors)
	for i := range again {
		if isNaN(back[1+i/d.Bytes()]) || isInf(back[1+i/d.Bytes()]) {
			continue // payloads and saturated infinities: the scalar tests say what becomes of them
		}
		if again[i] != want[i] {
			t.Fatalf("%v: byte %d decodes and encodes to %#x, want %#x", d, i, again[i], want[i])
		}
	}
	if back[0] != 0 || back[len(src)+1] != 0 {
		t.Fatal("decode wrote outside dst")
	}
}

// Every sign, exponent and upper mantissa, with lower bits on, just below and
// just above the ties of F16 (bit 12), BF16 (bit 15) and FP8 (none): the rare
// cases that the loops hand over begin and end where they should, and every one
// meets every place of a vector.
func TestEncodeAtEveryTie(t *testing.T) {
	t.Parallel()
	eachPath(t, encodeAtEveryTie)
}

func encodeAtEveryTie(t *testing.T, vectors bool) {
	for _, low := range []uint32{0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF} {
		src := make([]float32, 1<<16)
		for i := range src {
			src[i] = math.Float32frombits(uint32(i)<<16 | low)
		}
		for _, d := range floats {
			got := make([]byte, len(src)*d.Bytes())
			encode(got, src, d, vectors)
			for i, x := range src {
				if want := encodeOne(x, d); string(got[i*d.Bytes():(i+1)*d.Bytes()]) != string(want) {
					t.Fatalf("%v(%g, bits %#x): got %x, want %x", d, x, math.Float32bits(x), got[i*d.Bytes():(i+1)*d.Bytes()], want)
				}
			}
		}
	}
}

// Every code of every format of up to 16 bits.
func TestDecodeIsTheScalarCodec(t *testing.T) {
	t.Parallel()
	eachPath(t, decodeIsTheScalarCodec)
}

func decodeIsTheScalarCodec(t *testing.T, vectors bool) {
	for _, c := range []struct {
		d     DType
		n     int
		value func(int) float32
	}{
		{BF16, 1 << 16, func(i int) float32 { return BF16Value(uint16(i)) }},
		{F16, 1 << 16, func(i int) float32 { return F16Value(uint16(i)) }},
		{F8E4M3, 1 << 8, func(i int) float32 { return E4M3Value(uint8(i)) }},
		{F8E5M2, 1 << 8, func(i int) float32 { return E5M2Value(uint8(i)) }},
	} {
		src := make([]byte, c.n*c.d.Bytes())
		for i := range c.n {
			if c.d.Bytes() == 1 {
				src[i] = byte(i)
			} else {
				binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
			}
		}
		dst := make([]float32, c.n)
		decode(dst, src, c.d, vectors)
		for i, got := range dst {
			if want := c.value(i); math.Float32bits(got) != math.Float32bits(want) {
				t.Errorf("%v %#x: got %g, want %g", c.d, i, got, want)
			}
		}
	}
}

func TestBulkRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		d        DType
		bytes, n int
		want     string
	}{
		{"integer type", I8, 4, 4, "I8 is not a floating-point type"},
		{"no type", Unset, 0, 0, "unset is not a floating-point type"},
		{"bytes missing", BF16, 7, 4, "4 elements of BF16: found 7 bytes, wanted 8"},
		{"bytes left over", F32, 17, 4, "4 elements of F32: found 17 bytes, wanted 16"},
	} {
		if err := Decode(make([]float32, c.n), make([]byte, c.bytes), c.d); err == nil || err.Error() != "decode: "+c.want {
			t.Errorf("%s: Decode says %v", c.name, err)
		}
		if err := Encode(make([]byte, c.bytes), make([]float32, c.n), c.d); err == nil || err.Error() != "encode: "+c.want {
			t.Errorf("%s: Encode says %v", c.name, err)
		}
	}
}
