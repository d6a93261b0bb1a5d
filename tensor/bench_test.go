package tensor

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkBulk checks a conversion of 64 MiB of FP32, out of every cache, and
// times it beside a copy of as many bytes. The unit is bytes read plus bytes
// written; both are the best of all rounds, which alternate, so that other work
// on the machine meets both. copy-ratio is the speed in units of the copy's.
func BenchmarkBulk(b *testing.B) {
	const n = 1 << 24
	values, decoded := make([]float32, n), make([]float32, n)
	from, to := bytes.Repeat([]byte{1}, 4*n), make([]byte, 4*n) // written to: a page of zeros alone is no memory
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	best := func(f func(), so time.Duration) time.Duration {
		start := time.Now()
		f()
		return min(so, time.Since(start))
	}
	for _, d := range []DType{F32, F16, BF16, F8E4M3, F8E5M2} {
		for _, vectors := range []bool{false, hasVectors()} {
			raw, want := make([]byte, n*d.Bytes()), make([]byte, n*d.Bytes())
			run := func(name string, f func()) {
				b.Run(fmt.Sprintf("%s/%v/vectors=%v", name, d, vectors), func(b *testing.B) {
					moved := n * (4 + d.Bytes())
					copying, ours := time.Hour, time.Hour
					for b.Loop() {
						copying = best(func() { copy(to[:moved/2], from) }, copying)
						ours = best(f, ours)
					}
					b.ReportMetric(float64(moved)/ours.Seconds()/1e9, "GB/s")
					b.ReportMetric(copying.Seconds()/ours.Seconds(), "copy-ratio")
				})
			}
			encode(want, values, d, false)
			encode(raw, values, d, vectors)
			if !bytes.Equal(raw, want) {
				b.Fatalf("%v: encoded bytes differ", d)
			}
			decode(decoded, raw, d, vectors)
			one := make([]float32, 1)
			for i, got := range decoded {
				decode(one, raw[i*d.Bytes():][:d.Bytes()], d, false)
				if math.Float32bits(got) != math.Float32bits(one[0]) {
					b.Fatalf("%v: value %d is %g, want %g", d, i, got, one[0])
				}
			}
			run("encode", func() { encode(raw, values, d, vectors) })
			run("decode", func() { decode(decoded, raw, d, vectors) })
		}
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
