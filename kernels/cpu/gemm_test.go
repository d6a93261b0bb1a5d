package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"quantize/tensor"
)

// awkward sizes lie on, before and behind the edges of vectors and tiles.
var awkward = []int{1, 2, 3, 5, 15, 16, 17, 31, 33, 127}

// u is the unit roundoff of FP32. A sum of K products and a bias, in any order,
// is off by at most (K+1)·u/(1-(K+1)·u)·Σ|a||b| (Higham 2002, eq. 3.5).
const u = 0x1p-24

// checkProduct compares dst with x·wᵀ + bias in float64.
func checkProduct(t *testing.T, dst, x, w tensor.Matrix, bias []float32) {
	t.Helper()
	for i := range x.Rows {
		for j := range w.Rows {
			sum, mass := 0.0, 0.0
			if bias != nil {
				sum, mass = float64(bias[j]), math.Abs(float64(bias[j]))
			}
			b := w.Row(j)
			for p, v := range x.Row(i) {
				term := float64(v) * float64(b[p])
				sum += term
				mass += math.Abs(term)
			}
			bound := 1.01 * float64(x.Cols+1) * u * mass
			if got := float64(dst.Row(i)[j]); !(math.Abs(got-sum) <= bound) {
				t.Fatalf("element (%d, %d) is %g, want %g within %g", i, j, got, sum, bound)
			}
		}
	}
}

// product multiplies guarded operands, checks all that may be checked, and
// returns the result.
func product(t *testing.T, c *Compute, r *rand.Rand, m, n, k, gap int, biased bool) *guarded {
	t.Helper()
	x, w := newGuarded(m, k, gap).filledWith(r, 1), newGuarded(n, k, gap/2).filledWith(r, 1)
	dst := newGuarded(m, n, gap)
	var bias *guarded
	if biased {
		bias = newGuarded(1, n, 0).filledWith(r, 1)
		c.Linear(w.Matrix, bias.Row(0)).Forward(dst.Matrix, x.Matrix)
		bias.unchanged(t, "bias")
		checkProduct(t, dst.Matrix, x.Matrix, w.Matrix, bias.Row(0))
	} else {
		c.MatMulT(dst.Matrix, x.Matrix, w.Matrix)
		checkProduct(t, dst.Matrix, x.Matrix, w.Matrix, nil)
	}
	x.unchanged(t, "x")
	w.unchanged(t, "weight")
	dst.contained(t)
	return dst
}

func TestProductsOfAwkwardSizes(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		c := NewISA(isa, 2)
		r := rand.New(rand.NewPCG(1, 1))
		for _, m := range awkward {
			for _, n := range awkward {
				for _, k := range awkward {
					product(t, c, r, m, n, k, (m+n+k)%4*7, (m+k)%2 == 0)
				}
			}
		}
	})
}

// Several blocks of k, of rows and of panels, each with a rest.
func TestProductsAcrossBlocks(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		kern := kernelFor(isa)
		r := rand.New(rand.NewPCG(1, 2))
		for _, s := range [][3]int{
			{1, 3 * kern.cols, 3*kern.blockK + 1},
			{2*kern.blockM + 1, kern.cols + 1, kern.blockK + 1},
			{kern.blockM + kern.rows - 1, 2 * kern.cols, kern.blockK},
			{5, 300, 2 * kern.blockK},
			{kern.rows, 1, 4099},
		} {
			product(t, NewISA(isa, 2), r, s[0], s[1], s[2], 3, true)
		}
	})
}

func TestEmptyProducts(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(1, 3))
		for _, s := range [][3]int{{0, 5, 5}, {5, 0, 5}, {0, 0, 0}, {5, 40, 0}} {
			product(t, NewISA(isa, 2), r, s[0], s[1], s[2], 0, true)
		}
	})
}

// Every element is the same sum whatever M, the tile it falls in, and the
// number of workers.
func TestProductBitsDependOnlyOnOperands(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		m, n, k := 131, 150, 901
		one := product(t, NewISA(isa, 1), rand.New(rand.NewPCG(1, 4)), m, n, k, 0, true)
		for _, workers := range []int{2, 3, 7} {
			more := product(t, NewISA(isa, workers), rand.New(rand.NewPCG(1, 4)), m, n, k, 0, true)
			if !slices.Equal(bitsOf(one.all), bitsOf(more.all)) {
				t.Errorf("%d workers and one differ", workers)
			}
		}
		r := rand.New(rand.NewPCG(1, 5))
		x, w := newGuarded(m, k, 0).filledWith(r, 1), newGuarded(n, k, 0).filledWith(r, 1)
		l := NewISA(isa, 2).Linear(w.Matrix, nil)
		all, row := tensor.NewMatrix(m, n), tensor.NewMatrix(1, n)
		l.Forward(all, x.Matrix)
		for i := range m {
			l.Forward(row, x.RowRange(i, i+1))
			if !slices.Equal(bitsOf(all.Row(i)), bitsOf(row.Data)) {
				t.Fatalf("row %d alone and among %d differ", i, m)
			}
		}
	})
}

// A NaN or an infinity of x stays in its row, one of the weight in its column.
func TestProductsKeepNaNInItsPlace(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(1, 6))
		m, n, k := 17, 35, 50
		x, w := newGuarded(m, k, 0).filledWith(r, 1), newGuarded(n, k, 0).filledWith(r, 1)
		x.Row(3)[7], w.Row(33)[49] = float32(math.NaN()), float32(math.Inf(1))
		dst := tensor.NewMatrix(m, n)
		NewISA(isa, 2).MatMulT(dst, x.Matrix, w.Matrix)
		for i := range m {
			for j, v := range dst.Row(i) {
				finite := !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0)
				if finite != (i != 3 && j != 33) {
					t.Fatalf("element (%d, %d) is %g", i, j, v)
				}
			}
		}
	})
}

// The contract of one tile, called directly: every height, several tiles in a
// row, init apart from c and equal to it, nothing written beside the tile.
func TestTiles(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		kern := kernelFor(isa)
		r := rand.New(rand.NewPCG(1, 7))
		for rows := 1; rows <= kern.rows; rows++ {
			for _, k := range []int{0, 1, 2, 3, 4, 5, 8, 11, 64} {
				for count := 1; count <= 3; count++ {
					a := newGuarded(count*rows, k, 3).filledWith(r, 1)
					panel := newGuarded(k, kern.cols, 0).filledWith(r, 1)
					init := newGuarded(1, kern.cols, 0).filledWith(r, 1)
					c := newGuarded(count*rows, kern.cols, 5)
					w := tensor.NewMatrix(kern.cols, k)
					for p := range k {
						for j := range kern.cols {
							w.Row(j)[p] = panel.Row(p)[j]
						}
					}
					kern.tiles[rows](count, k, &a.all[margin], a.Stride, &panel.all[margin], &c.Data[0], c.Stride, &init.Data[0], 0, 0, 0)
					checkProduct(t, c.Matrix, a.Matrix, w, init.Row(0))
					c.contained(t)
					once := tensor.NewMatrix(c.Rows, c.Cols)
					for i := range c.Rows {
						copy(once.Row(i), c.Row(i))
					}
					kern.tiles[rows](count, k, &a.all[margin], a.Stride, &panel.all[margin], &c.Data[0], c.Stride, &c.Data[0], c.Stride, uintptr(unsafe.Pointer(&panel.all[0])), 3)
					c.contained(t)
					for i := range c.Rows {
						for j, v := range c.Row(i) {
							if want := 2*float64(once.Row(i)[j]) - float64(init.Row(0)[j]); math.Abs(float64(v)-want) > 1e-5*(1+math.Abs(want)) {
								t.Fatalf("%d tiles of %d rows, k %d: accumulated (%d, %d) is %g, want %g", count, rows, k, i, j, v, want)
							}
						}
					}
					a.unchanged(t, "a")
					panel.unchanged(t, "panel")
					init.unchanged(t, "init")
				}
			}
		}
	})
}

func TestPackLinearAsksForEachRowOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	w, x := newGuarded(70, 33, 0).filledWith(r, 1), newGuarded(9, 33, 0).filledWith(r, 1)
	asked := make([]int, w.Rows) // each element has one writer
	l := NewISA(Available()[0], 4).PackLinear(w.Rows, w.Cols, func(i int, dst []float32) {
		asked[i]++
		copy(dst, w.Row(i))
	}, nil)
	if n, k := l.Shape(); n != 70 || k != 33 {
		t.Errorf("shape (%d, %d)", n, k)
	}
	for i, times := range asked {
		if times != 1 {
			t.Errorf("row %d asked for %d times", i, times)
		}
	}
	dst := tensor.NewMatrix(9, 70)
	l.Forward(dst, x.Matrix)
	checkProduct(t, dst, x.Matrix, w.Matrix, nil)
}

// Shapes that do not fit are our own mistake: a panic, before anything is written.
func TestShapesThatDoNotFit(t *testing.T) {
	c := NewISA(Generic, 1)
	l := c.Linear(tensor.NewMatrix(3, 4), nil)
	for name, do := range map[string]func(){
		"x":    func() { l.Forward(tensor.NewMatrix(2, 3), tensor.NewMatrix(2, 5)) },
		"dst":  func() { l.Forward(tensor.NewMatrix(2, 4), tensor.NewMatrix(2, 4)) },
		"rows": func() { l.Forward(tensor.NewMatrix(1, 3), tensor.NewMatrix(2, 4)) },
		"bias": func() { c.Linear(tensor.NewMatrix(3, 4), make([]float32, 4)) },
		"norm": func() { c.RMSNorm(tensor.NewMatrix(2, 4), tensor.NewMatrix(2, 4), make([]float32, 3), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			do()
		})
	}
}

func ExampleCompute_MatMulT() {
	a := tensor.MatrixOf(1, 3, []float32{1, 2, 3})
	b := tensor.MatrixOf(2, 3, []float32{1, 0, 0, 1, 1, 1})
	dst := tensor.NewMatrix(1, 2)
	New().MatMulT(dst, a, b)
	fmt.Println(dst.Data)
	// Output: [1 6]
}
