package packer

import (
	"math"
	"testing"

	"quantize/tensor"
)

// loud returns weights of which some columns are large, and inputs' energies that
// are largest there: what AWQ's and SmoothQuant's scales leave behind.
func loud() (tensor.Matrix, []float32) {
	w := randomMatrix(128, 512, 21, studentT5)
	h := make([]float32, w.Cols)
	for j := range h {
		h[j] = 1
		if j%64 == 5 {
			h[j] = 30
			for n := range w.Rows {
				w.Row(n)[j] *= 2
			}
		}
	}
	return w, h
}

// A search that does not know the inputs should not lose the outputs it cannot see:
// with the largest weights on the loudest inputs it still beats amax/7. Counting
// all errors alike, the control, does not.
func TestSearchSparesLargeWeights(t *testing.T) {
	w, h := loud()
	for _, g := range []Grid{GridLUT, GridExact} {
		energy := func(o Int4Options) float64 {
			o.Grid, o.GroupSize = g, 128
			q, _, err := QuantizeInt4(w, o)
			if err != nil {
				t.Fatal(err)
			}
			return distance(w, q, g.Arithmetic(), h)
		}
		plain, searched, even := energy(Int4Options{}), energy(Int4Options{Search: true}), energy(Int4Options{Search: true, Even: true})
		t.Logf("%v: plain %.4g, searched %.4g, even %.4g", g, plain, searched, even)
		if searched >= plain {
			t.Errorf("%v: searched %g, plain %g", g, searched, plain)
		}
		if even <= plain {
			t.Errorf("%v: counting all errors alike gives %g, plain %g: these weights show nothing", g, even, plain)
		}
	}
}

// cost_j = h_j (1 + |w_j|/rms) is what is minimised: no other choice of one
// group's scale under the same row factor does better.
func TestSearchIsMinimal(t *testing.T) {
	w := randomMatrix(40, 256, 22, studentT5)
	h := make([]float32, w.Cols)
	for j := range h {
		h[j] = float32(1+j%5) / 5
	}
	for _, even := range []bool{false, true} {
		s := &searcher{grid: GridLUT, group: 64, weight: h, even: even}
		best := rowScales{tables: make([]uint8, 4)}
		for n := range w.Rows {
			row := w.Row(n)
			s.run(row, &best)
			cost := func(g int, table uint8) float64 {
				products := newGroupCoder(GridLUT, table, best.ch).products
				group := row[g*64:][:64]
				var square float64
				for _, x := range group {
					square += float64(x) * float64(x)
				}
				rms := math.Sqrt(square / 64)
				var sum float64
				for j, x := range group {
					d := math.Inf(1)
					for _, p := range products {
						d = min(d, math.Abs(float64(x)-float64(p)))
					}
					c := float64(h[g*64+j])
					if !even {
						c *= 1 + math.Abs(float64(x))/rms
					}
					sum += c * d * d
				}
				return sum
			}
			var total float64
			at448 := 0
			for g, table := range best.tables {
				total += cost(g, table)
				if table == pinned {
					at448++
				}
				for other := max(table-2, lifted); other <= min(table+2, pinned); other++ {
					// A lone group at 448 may be there to hold the row factor.
					if table != pinned && cost(g, other) < cost(g, table)*(1-1e-5) {
						t.Fatalf("row %d group %d: table byte %#x costs %g, %#x %g", n, g, table, cost(g, table), other, cost(g, other))
					}
				}
			}
			if at448 == 0 && !best.floor {
				t.Fatalf("row %d: no group at 448", n)
			}
			// FP32 sums of 64 terms.
			if !agree(best.err, total, 1e-5) {
				t.Fatalf("row %d: cost %g, by the formula %g", n, best.err, total)
			}
		}
	}
}
