package checkpoint

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"testing"

	"quantize/tensor"
)

// Values are checked in every float dtype and in every piece of a long tensor, and
// the tensor can be written all the same afterwards.
func TestFiniteNamesTheElement(t *testing.T) {
	t.Parallel()
	const cols = 1000
	long := chunk/2/cols + 50 // more than one piece of BF16
	for _, c := range []struct {
		name  string
		dtype tensor.DType
		at    int
		put   func(b []byte)
		found string
	}{
		{"BF16", tensor.BF16, 7, func(b []byte) { binary.LittleEndian.PutUint16(b, 0x7fc0) }, "NaN at element 7 (row 0, column 7)"},
		{"BF16 in the second piece", tensor.BF16, chunk/2 + 1, func(b []byte) { binary.LittleEndian.PutUint16(b, 0xff80) }, "-Inf at element 131073 (row 131, column 73)"},
		{"F16", tensor.F16, cols, func(b []byte) { binary.LittleEndian.PutUint16(b, 0x7c00) }, "+Inf at element 1000 (row 1, column 0)"},
		{"F32", tensor.F32, 1, func(b []byte) { binary.LittleEndian.PutUint32(b, math.Float32bits(float32(math.Inf(1)))) }, "+Inf at element 1"},
		{"F64 beyond FP32", tensor.F64, 2, func(b []byte) { binary.LittleEndian.PutUint64(b, math.Float64bits(1e300)) }, "+Inf at element 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			info := Info{"w", c.dtype, []int{long, cols}}
			data := make([]byte, info.Bytes())
			r := single(t, info, data)
			if err := r.Finite("w"); err != nil {
				t.Errorf("zeros: %v", err)
			}
			c.put(data[c.at*c.dtype.Bytes():])
			wantFault(t, CheckFinite(info, data[c.at*c.dtype.Bytes():], int64(c.at*c.dtype.Bytes())), ErrInvalid, `"w"`, c.found, "finite")
			r = single(t, info, data)
			wantFault(t, r.Finite("w"), ErrInvalid, "model.safetensors", c.found, "finite")

			w, err := Create(filepath.Join(t.TempDir(), "out"), []Info{info}, WriterOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = w.Abort() }() // nothing is kept
			wantFault(t, w.CopyFinite(r, "w"), ErrInvalid, `"w"`, c.found, "finite")
			if err := w.Copy(r, "w"); err != nil {
				t.Errorf("unchecked: %v", err)
			}
		})
	}
	r := single(t, Info{"i", tensor.I32, []int{1}}, make([]byte, 4))
	wantFault(t, r.Finite("i"), ErrInvalid, `"i"`, "dtype I32", "floating-point")
}

// single opens a checkpoint of one tensor.
func single(t *testing.T, info Info, data []byte) *Reader {
	t.Helper()
	out := filepath.Join(t.TempDir(), "one")
	w, err := Create(out, []Info{info}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.Add(info.Name, data), w.File(configFile, []byte("{}")), w.Commit()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return open(t, out)
}
