package tensor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatrixViews(t *testing.T) {
	t.Parallel()
	m := MatrixOf(3, 4, []float32{0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23})
	v := m.RowRange(1, 3).ColRange(1, 3)
	if v.Rows != 2 || v.Cols != 2 {
		t.Fatalf("got %dx%d", v.Rows, v.Cols)
	}
	if diff := cmp.Diff([]float32{21, 22}, v.Row(1)); diff != "" {
		t.Error(diff)
	}
	if cap(v.Row(0)) != 2 {
		t.Error("a row reaches into the next one")
	}
	v.Row(0)[0] = 99
	if m.Row(1)[1] != 99 {
		t.Error("a view copies")
	}
	for name, e := range map[string]Matrix{"no rows": m.RowRange(3, 3), "no columns": m.ColRange(4, 4), "nothing": NewMatrix(0, 4).ColRange(1, 2)} {
		if e.Rows*e.Cols != 0 || len(e.Data) != 0 {
			t.Errorf("%s: got %dx%d with %d elements", name, e.Rows, e.Cols, len(e.Data))
		}
	}
}

func TestDTypeNames(t *testing.T) {
	t.Parallel()
	for d := Bool; d <= U64; d++ {
		if got, err := ParseDType(d.String()); err != nil || got != d || d.Bytes() == 0 {
			t.Errorf("%v: parsed to %v (%v), %d bytes", d, got, err, d.Bytes())
		}
	}
	for _, name := range []string{"", "unset", "F8_E8M0", "bf16"} {
		if d, err := ParseDType(name); err == nil {
			t.Errorf("%q is %v", name, d)
		}
	}
}
