//go:build !noasm

package tensor

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// The runs are whole blocks inside the elements, cover all of them, and those
// that go past the caches start on a vector.
func TestRunsCover(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "size")
		n := rapid.OneOf(rapid.IntRange(block, 200), rapid.IntRange(bypassed/4-block, bypassed+200)).Draw(t, "n")
		to := uintptr(rapid.IntRange(64, 127).Draw(t, "to"))
		covered, streamed := 0, 0
		eachRun(n, to, size, func(i, count int, stream bool) {
			if i < 0 || i > covered || count < 0 || count%block != 0 || i+count > n {
				t.Fatalf("%d elements from %d on, %d of %d done", count, i, covered, n)
			}
			if stream {
				streamed += count
				if (to+uintptr(i*size))%vector != 0 {
					t.Fatalf("the run past the caches starts at %d, %d elements of %d bytes on from %d", i, i, size, to)
				}
			}
			covered = max(covered, i+count)
		})
		if covered != n {
			t.Fatalf("%d of %d elements", covered, n)
		}
		if long := n*size >= bypassed && to%uintptr(size) == 0; long != (streamed > 0) {
			t.Fatalf("%d elements went past the caches", streamed)
		}
	})
}

// Results that are written past the caches are the same, off any alignment.
func TestLongRuns(t *testing.T) {
	if !hasVectors() {
		t.Skip("no AVX2")
	}
	t.Parallel()
	const n = bypassed + 3*block + 5
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([]float32, n)
	for i := range values {
		values[i] = math.Float32frombits(rng.Uint32())
	}
	for _, d := range []DType{BF16, F16, F8E4M3, F8E5M2} {
		n := bypassed/d.Bytes() + 3*block + 5
		want, got := make([]byte, n*d.Bytes()), make([]byte, (n+block)*d.Bytes())
		encode(want, values[:n], d, false)
		got = got[3*d.Bytes():][:len(want)]
		encode(got, values[:n], d, true)
		if !bytes.Equal(got, want) {
			t.Errorf("%v: encoded bytes differ", d)
		}
		n = bypassed/4 + 3*block + 5
		plain, fast := make([]float32, n), make([]float32, n+3)[3:]
		decode(plain, want[:n*d.Bytes()], d, false)
		decode(fast, want[:n*d.Bytes()], d, true)
		if !slices.Equal(bitsOf(fast), bitsOf(plain)) {
			t.Errorf("%v: decoded values differ", d)
		}
	}
}

func bitsOf(x []float32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}
