package packer

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The assembly and the plain loops give the same bits, for rows and columns of any
// stride, and write nothing beside the panel.
func TestAddPanelIsItsTwin(t *testing.T) {
	if !hasVectors() {
		t.Skip("no assembly for this processor")
	}
	r := rand.New(rand.NewPCG(7, 1))
	fill := func(n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		return x
	}
	for _, k := range []int{1, 2, 3, 31, 256} {
		for _, strides := range [][3]int{{k, 1, lanes}, {k + 3, 1, lanes + 5}, {1, panelRows, lanes}, {2, 9, 64}} {
			rs, ks, ldc := strides[0], strides[1], strides[2]
			a, b := fill((panelRows-1)*rs+(k-1)*ks+1), fill(k*lanes)
			got := fill((panelRows-1)*ldc + lanes)
			want := slices.Clone(got)
			addPanel(panelRows, got, ldc, a, rs, ks, b, k)
			for row := range panelRows { // a row alone has no assembly
				addPanel(1, want[row*ldc:], ldc, a[row*rs:], rs, ks, b, k)
			}
			if !slices.Equal(got, want) {
				t.Errorf("k %d, strides %v: other bits", k, strides)
			}
		}
	}
}
