package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
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

// Bulk and scalar agree for every length and alignment, NaN among the values,
// and nothing outside the slices is touched.
func TestEncodeIsTheScalarCodec(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom(floats).Draw(t, "dtype")
		bits := rapid.SliceOfN(rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{
			0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF,
		})), 0, 37).Draw(t, "bits")
		src := make([]float32, len(bits))
		var want []byte
		for i, b := range bits {
			src[i] = math.Float32frombits(b)
			want = append(want, encodeOne(src[i], d)...)
		}
		const guard = 0xA5
		buf := make([]byte, len(want)+16)
		for i := range buf {
			buf[i] = guard
		}
		if err := Encode(buf[8:len(buf)-8], src, d); err != nil {
			t.Fatal(err)
		}
		for i, b := range buf {
			if in := i >= 8 && i < len(buf)-8; in && b != want[i-8] || !in && b != guard {
				t.Fatalf("%v: byte %d is %#x", d, i-8, b)
			}
		}
		back := make([]float32, len(src)+2)
		if err := Decode(back[1:len(src)+1], want, d); err != nil {
			t.Fatal(err)
		}
		again := make([]byte, len(want))
		if err := Encode(again, back[1:len(src)+1], d); err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if isNaN(back[1+i/d.Bytes()]) || isInf(back[1+i/d.Bytes()]) {
				continue // payloads and saturated infinities: the scalar tests say what becomes of them
			}
			if again[i] != want[i] {
				t.Fatalf("%v: byte %d decodes and encodes to %#x, want %#x", d, i, again[i], want[i])
			}
		}
		if back[0] != 0 || back[len(src)+1] != 0 {
			t.Fatal("Decode wrote outside dst")
		}
	})
}

// Every sign, exponent and upper mantissa, with lower bits on, just below and
// just above the ties of F16 (bit 12), BF16 (bit 15) and FP8 (none): the rare
// cases that the loops hand over begin and end where they should.
func TestEncodeAtEveryTie(t *testing.T) {
	t.Parallel()
	for _, low := range []uint32{0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF} {
		src := make([]float32, 1<<16)
		for i := range src {
			src[i] = math.Float32frombits(uint32(i)<<16 | low)
		}
		for _, d := range floats {
			got := make([]byte, len(src)*d.Bytes())
			if err := Encode(got, src, d); err != nil {
				t.Fatal(err)
			}
			for i, x := range src {
				if want := encodeOne(x, d); string(got[i*d.Bytes():(i+1)*d.Bytes()]) != string(want) {
					t.Fatalf("%v(%g, bits %#x): got %x, want %x", d, x, math.Float32bits(x), got[i*d.Bytes():(i+1)*d.Bytes()], want)
				}
			}
		}
	}
}

func TestDecodeIsTheScalarCodec(t *testing.T) {
	t.Parallel()
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
		if err := Decode(dst, src, c.d); err != nil {
			t.Fatal(err)
		}
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

// The unit of GB/s is bytes read plus bytes written; "copy" is the ceiling.
func BenchmarkBulk(b *testing.B) {
	const n = 1 << 24 // 64 MiB of FP32: out of every cache
	values := make([]float32, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	run := func(name string, bytes int, f func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytes)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
		})
	}
	dst := make([]float32, n)
	run("copy", 8*n, func() error { copy(dst, values); return nil })
	for _, d := range floats {
		raw := make([]byte, n*d.Bytes())
		run(fmt.Sprintf("encode/%v", d), n*(4+d.Bytes()), func() error { return Encode(raw, values, d) })
		run(fmt.Sprintf("decode/%v", d), n*(4+d.Bytes()), func() error { return Decode(dst, raw, d) })
	}
}

func BenchmarkE4M3(b *testing.B) {
	x := make([]float32, 4096)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	var sum uint8
	for b.Loop() {
		for _, v := range x {
			sum += E4M3(v)
		}
	}
	_ = sum
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(x)), "ns/value")
}
