package smoothing

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/blas/blas64"

	"quantize/calibrate"
	"quantize/model"
)

// written returns q (n, n), row i being unit row i rotated.
func written(q Orthogonal) []float64 {
	n := q.Order()
	m := make([]float64, n*n)
	for i := range n {
		m[i*n+i] = 1
		q.Rotate(m[i*n : (i+1)*n])
	}
	return m
}

// momentOf is Σ xᵀx over rows of k.
func momentOf(k int, rows []float64) *calibrate.Hessian {
	h := &calibrate.Hessian{K: k, Data: make([]float64, k*k)}
	for ; len(rows) > 0; rows = rows[k:] {
		for i := range k {
			for j := range k {
				h.Data[i*k+j] += rows[i] * rows[j]
			}
		}
	}
	return h
}

// correlated returns rows of k whose channels are mixed and differ in size.
func correlated(seed uint64, rows, k int) []float64 {
	x := gaussian(seed, rows*k)
	for i := range rows {
		row := x[i*k : (i+1)*k]
		for j := range row {
			row[j] *= 4 / float64(1+j)
		}
		for j := 1; j < k; j++ {
			row[j] += 0.5 * row[j-1]
		}
	}
	return x
}

// rotations of one order of every kind.
func rotations(t testing.TB, n int) []Orthogonal {
	t.Helper()
	h := hadamard(t, n)
	random, err := NewRandomOrthogonal(n, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	moment := momentOf(n, correlated(2, 3*n, n))
	pca, err := NewPCA(moment)
	if err != nil {
		t.Fatal(err)
	}
	both, err := NewPCAHadamard(moment, 5, 0)
	if err != nil {
		t.Fatal(err)
	}
	block, err := BlockHadamard(n)
	if err != nil {
		t.Fatal(err)
	}
	return []Orthogonal{h, block, NewRandomHadamard(h, 3, 0), random, pca, both}
}

func TestRotationsAreOrthogonal(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 4, 12, 24, 64, 112} {
		for _, q := range rotations(t, n) {
			m := written(q)
			for i := range n {
				for j := range n {
					dot := 0.0
					for c := range n {
						dot += m[i*n+c] * m[j*n+c]
					}
					if i == j {
						dot--
					}
					if math.Abs(dot) > 1e-12 {
						t.Fatalf("%v: rows %d and %d are off by %g", q, i, j, dot)
					}
				}
			}
			x := gaussian(4, n)
			want, direct := slices.Clone(x), make([]float64, n)
			for i, v := range x {
				for j := range direct {
					direct[j] += v * m[i*n+j]
				}
			}
			q.Rotate(x)
			if d := apart(x, direct); d > 1e-12 {
				t.Errorf("%v: a row differs from the product by %g", q, d)
			}
			q.Unrotate(x)
			if d := apart(x, want); d > 1e-12 {
				t.Errorf("%v: Unrotate leaves %g", q, d)
			}
		}
	}
}

// Q = D·Hᵀ, and equal seeds give equal signs.
func TestRandomHadamardIsItsFormula(t *testing.T) {
	t.Parallel()
	h := hadamard(t, 12)
	q := NewRandomHadamard(h, 9, 2)
	m := written(q)
	for i := range 12 {
		for j := range 12 {
			if want := q.signs[i] * float64(h.Sign(j, i)) / math.Sqrt(12); math.Abs(m[i*12+j]-want) > 1e-15 {
				t.Fatalf("element (%d, %d) is %v, wanted %v", i, j, m[i*12+j], want)
			}
		}
	}
	large := hadamard(t, 4096)
	signs := NewRandomHadamard(large, 9, 2).signs
	if !slices.Equal(signs, NewRandomHadamard(large, 9, 2).signs) {
		t.Error("one seed, two matrices")
	}
	if slices.Equal(signs, NewRandomHadamard(large, 9, 3).signs) || slices.Equal(signs, NewRandomHadamard(large, 8, 2).signs) {
		t.Error("two seeds, one matrix")
	}
	minus := 0
	for _, s := range signs {
		if s < 0 {
			minus++
		}
	}
	if minus < 2048-192 || minus > 2048+192 { // six standard deviations
		t.Errorf("%d of 4096 signs are negative", minus)
	}
}

func TestNamesOfRotations(t *testing.T) {
	t.Parallel()
	want := []string{
		"hadamard 24 = 12 x 2", "block-hadamard 24 = 3 blocks of 8", "random-hadamard 24 = 12 x 2, seed 3, stream 0",
		"random-orthogonal 24, seed 3, stream 1", "pca 24", "pca 24, then random-hadamard 24 = 12 x 2, seed 5, stream 0",
	}
	for i, q := range rotations(t, 24) {
		if q.String() != want[i] {
			t.Errorf("%q, wanted %q", q, want[i])
		}
	}
}

// Matrices are rotated as their rows and columns are, whatever the kind, in
// pieces of a larger matrix, and beyond a slab.
func TestMatricesAreRotatedByRowsAndColumns(t *testing.T) {
	t.Parallel()
	const n, others = 24, slab + 19
	for _, q := range rotations(t, n) {
		for _, byRows := range []bool{true, false} {
			rows, cols := n, others
			if byRows {
				rows, cols = others, n
			}
			const border = 3
			data := gaussian(6, (rows+2*border)*(cols+2*border))
			all := whole(&model.Param{Rows: rows + 2*border, Cols: cols + 2*border, Data: data})
			before := slices.Clone(data)
			part := cut(all, border, border, rows, cols)
			if byRows {
				rotateRows(q, part)
			} else {
				rotateColumns(q, part)
			}
			for i := range rows + 2*border {
				for j := range cols + 2*border {
					inside := i >= border && i < border+rows && j >= border && j < border+cols
					if at := i*all.Stride + j; !inside && data[at] != before[at] {
						t.Fatalf("%v: wrote outside, at (%d, %d)", q, i, j)
					}
				}
			}
			vector := make([]float64, n)
			for o := range others {
				at := func(c int) int {
					if byRows {
						return (border+o)*all.Stride + border + c
					}
					return (border+c)*all.Stride + border + o
				}
				for c := range vector {
					vector[c] = before[at(c)]
				}
				q.Rotate(vector)
				for c, want := range vector {
					if d := math.Abs(data[at(c)] - want); d > 1e-12 {
						t.Fatalf("%v, rows %v: vector %d, element %d is off by %g", q, byRows, o, c, d)
					}
				}
			}
		}
	}
}

// A token with one outlier is flat after a Hadamard matrix, and its norm is what
// it was.
func TestOutliersAreSpread(t *testing.T) {
	t.Parallel()
	for _, n := range []int{64, 896, 4096, 4864, 14336} {
		h := hadamard(t, n)
		for _, q := range []Orthogonal{h, NewRandomHadamard(h, 1, 0)} {
			x := gaussian(3, n)
			x[n/3], x[n-1] = 100, -60
			before, size, tail := peak(x), norm(x), kurtosis(x)
			q.Rotate(x)
			if after := peak(x); after > 6 || after > before*0.9 {
				t.Errorf("%v: max/rms %.1f, before %.1f", q, after, before)
			}
			if after := kurtosis(x); after > 4 || after > tail {
				t.Errorf("%v: kurtosis %.1f, before %.1f", q, after, tail)
			}
			if math.Abs(norm(x)-size) > 1e-12*size {
				t.Errorf("%v: the norm changes by %g", q, norm(x)-size)
			}
		}
	}
}

func peak(x []float64) float64 {
	top := 0.0
	for _, v := range x {
		top = max(top, math.Abs(v))
	}
	return top * math.Sqrt(float64(len(x))) / norm(x)
}

func kurtosis(x []float64) float64 {
	second, fourth := 0.0, 0.0
	for _, v := range x {
		second += v * v
		fourth += v * v * v * v
	}
	return fourth * float64(len(x)) / (second * second)
}

func TestRandomOrthogonalNeedsAnOrder(t *testing.T) {
	t.Parallel()
	if _, err := NewRandomOrthogonal(0, 1, 1); !errors.Is(err, ErrRotation) {
		t.Errorf("error %v", err)
	}
	q, err := NewRandomOrthogonal(15, 1, 1) // no Hadamard matrix has this order
	if err != nil || q.Order() != 15 || !strings.HasPrefix(q.String(), "random-orthogonal") {
		t.Errorf("%v, error %v", q, err)
	}
}

// BenchmarkRotateMatrix gives the time of a weight's element: (256, 4096) by
// rows, (4096, 256) by columns, all cores.
func BenchmarkRotateMatrix(b *testing.B) {
	const n, others = 4096, 256
	h := NewRandomHadamard(hadamard(b, n), 1, 0)
	for _, c := range []struct {
		name string
		q    func() Orthogonal
	}{
		{"hadamard", func() Orthogonal { return h }},
		{"dense", func() Orthogonal { return newDense(n, h.h.Dense(), "dense") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			q, data := c.q(), gaussian(1, n*others)
			w := blas64.General{Rows: others, Cols: n, Stride: n, Data: data}
			tall := blas64.General{Rows: n, Cols: others, Stride: others, Data: data}
			row := slices.Clone(data[7*n : 8*n])
			q.Rotate(row)
			rotateRows(q, w)
			if d := apart(row, data[7*n:8*n]); d > 1e-10 {
				b.Fatalf("a row is off by %g", d)
			}
			for name, rotate := range map[string]func(){
				"rows": func() { rotateRows(q, w) }, "columns": func() { rotateColumns(q, tall) },
			} {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						rotate()
					}
					b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(data)), "ns/element")
				})
			}
		})
	}
}
