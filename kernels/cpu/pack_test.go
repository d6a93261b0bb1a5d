package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Rows packed together lie where rows packed one by one lie, whatever the
// shape, the blocks of k, the first row and the distance of the rows.
func TestRowsPackedTogether(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, s := range []struct{ n, k, block, first, gap int }{
			{1, 1, 1, 0, 0},
			{8, 4, 4, 0, 0},
			{16, 64, 64, 0, 3},
			{33, 7, 7, 0, 1},
			{40, 100, 24, 3, 0},
			{70, 31, 13, 8, 5},
			{47, 129, 128, 16, 2},
			{9, 0, 1, 0, 0},
		} {
			rows := newGuarded(s.n-s.first, s.k, s.gap).filledWith(r, 1)
			want, got := newPackedBlock(kernelFor(isa), s.n, s.k, s.block), newPackedBlock(kernelFor(isa), s.n, s.k, s.block)
			for i := range rows.Rows {
				want.setRow(s.first+i, rows.Row(i))
			}
			got.setRows(s.first, rows.Rows, rows.Data, rows.Stride)
			if !slices.Equal(bitsOf(got.data), bitsOf(want.data)) {
				t.Errorf("%+v: rows lie elsewhere", s)
			}
		}
	})
}
