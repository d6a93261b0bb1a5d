package tensor

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPackInt4GoldenWord(t *testing.T) {
	t.Parallel()
	q := []int8{-8, -7, -1, 0, 1, 2, 6, 7}
	w := make([]uint32, 1)
	PackInt4(w, q)
	if w[0] != 0xFEA98710 || int32(w[0]) != -22444272 {
		t.Errorf("got %#x", w[0])
	}
	if diff := cmp.Diff([]byte{0x10, 0x87, 0xA9, 0xFE}, binary.LittleEndian.AppendUint32(nil, w[0])); diff != "" {
		t.Error(diff)
	}
}

func TestInt4EveryCodeInEveryPlace(t *testing.T) {
	t.Parallel()
	for place := range 8 {
		for code := int8(-8); code <= 7; code++ {
			q := make([]int8, 8)
			q[place] = code
			w := make([]uint32, 1)
			PackInt4(w, q)
			if want := uint32(0x88888888)&^(15<<(4*place)) | uint32(code+8)<<(4*place); w[0] != want {
				t.Errorf("code %d in place %d: got %#x, want %#x", code, place, w[0], want)
			}
			got := make([]int8, 8)
			UnpackInt4(got, w)
			if diff := cmp.Diff(q, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestInt4RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := rapid.SliceOfN(rapid.Int8Range(-8, 7), 0, 80).Draw(t, "q")
		q = q[:len(q)/8*8]
		w := make([]uint32, len(q)/8)
		PackInt4(w, q)
		got := make([]int8, len(q))
		UnpackInt4(got, w)
		if diff := cmp.Diff(q, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestInt4BugsPanic(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"pack: not 8 codes a word":   func() { PackInt4(make([]uint32, 1), make([]int8, 7)) },
		"unpack: not 8 codes a word": func() { UnpackInt4(make([]int8, 9), make([]uint32, 1)) },
		"code 8":                     func() { PackInt4(make([]uint32, 1), []int8{0, 0, 0, 8, 0, 0, 0, 0}) },
		"code -9":                    func() { PackInt4(make([]uint32, 1), []int8{-9, 0, 0, 0, 0, 0, 0, 0}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// Every word is a valid one: unpacking and packing gives it back.
func FuzzInt4(f *testing.F) {
	f.Add([]byte{0x10, 0x87, 0xA9, 0xFE})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := make([]uint32, len(b)/4)
		for i := range w {
			w[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
		q := make([]int8, 8*len(w))
		UnpackInt4(q, w)
		again := make([]uint32, len(w))
		PackInt4(again, q)
		if diff := cmp.Diff(w, again); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkUnpackInt4(b *testing.B) {
	w := make([]uint32, 1<<20)
	q := make([]int8, 8<<20)
	for b.Loop() {
		UnpackInt4(q, w)
	}
	b.ReportMetric(12*float64(len(w))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
}

func BenchmarkPackInt4(b *testing.B) {
	w := make([]uint32, 1<<20)
	q := make([]int8, 8<<20)
	for b.Loop() {
		PackInt4(w, q)
	}
	b.ReportMetric(12*float64(len(w))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
}
