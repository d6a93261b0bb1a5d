package packer

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"quantize/internal/alloc"
	"quantize/tensor"
)

func FuzzParseManifest(f *testing.F) {
	m := &Manifest{Version: manifestVersion, Scheme: W4A8, Grid: GridLUT, Layers: []Layer{{Name: "a"}}, Tensors: map[string]string{"a": sha256Hex(nil)}}
	seed, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"manifest_version": 2}`))
	f.Add([]byte(`{"manifest_version": 1, "tensors": {"a": "00"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m *Manifest
		var err error
		if over := alloc.Check(len(data), func() { m, err = ParseManifest(data) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if m.Scheme.String() == "unset" {
			return // absent, and only written by a bug
		}
		again, err := m.encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := ParseManifest(again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
	})
}

// Any bits are a weight of some kind: splitting and decoding follow the
// runtime's formulas, in float64 beside them, and never panic.
func FuzzSplitDecode(f *testing.F) {
	f.Add(make([]byte, 2*(2+16)), uint8(0))
	f.Add([]byte{0x80, 0x3f, 0x01, 0x00, 0x80, 0x7f, 0xc0, 0x7f, 0xff, 0xff}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		const n, k, group = 2, 64, 32
		next := func() (x uint16) {
			if len(data) >= 2 {
				x, data = binary.LittleEndian.Uint16(data), data[2:]
			}
			return x
		}
		w := &Int4Weight{N: n, K: k, GroupSize: group, Codes: make([]uint32, n*k/8), Scales: make([]uint16, n*k/group)}
		finite := true
		for i := range w.Scales {
			w.Scales[i] = next()
			s := float64(tensor.BF16Value(w.Scales[i]))
			finite = finite && s >= 0 && s < 0x1p100
		}
		for i := range w.Codes {
			w.Codes[i] = uint32(next()) | uint32(next())<<16
		}
		a := []Arithmetic{LUT, Exact, WeightOnly}[kind%3]
		got := tensor.NewMatrix(n, k)
		w.Decode(got, a)
		if !finite {
			return
		}
		chans, s8 := w.Split()
		for row := range n {
			top := 0.0
			for g := range k / group {
				top = max(top, float64(tensor.BF16Value(w.Scales[row*k/group+g])))
			}
			if want := float32(max(float64(float32(top)/448), 1.0/(448*512))); chans[row] != want {
				t.Fatalf("row %d: chan %g, want %g", row, chans[row], want)
			}
			for j := range k {
				g := row*k/group + j/group
				s := float64(tensor.BF16Value(w.Scales[g]))
				q := float64(int(w.Codes[(row*k+j)/8]>>(4*(j%8))&15) - 8)
				scale := e4m3(float64(float32(s) / chans[row]))
				if float64(tensor.E4M3Value(s8[g])) != scale {
					t.Fatalf("s8 of group %d: %g, want %g", g, tensor.E4M3Value(s8[g]), scale)
				}
				var want float64
				switch a {
				case LUT:
					want = e4m3(q*e4m3(scale/8)) * 8 * float64(chans[row])
				case Exact:
					want = q * 8 * e4m3(scale/8) * float64(chans[row])
				case WeightOnly:
					want = q * s
				}
				if d := math.Abs(float64(got.Row(row)[j]) - want); d > math.Abs(want)*0x1p-23+0x1p-149 {
					t.Fatalf("weight[%d, %d]: %g, want %g", row, j, got.Row(row)[j], want)
				}
			}
		}
	})
}
