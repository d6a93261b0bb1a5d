package smoothing

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"quantize/internal/fault"
)

// Dense is an orthogonal matrix without structure: a row costs n² products.
type Dense struct {
	n       int
	q       blas64.General // (n, n)
	name    string
	scratch sync.Pool // *[]float64, n
}

func newDense(n int, q []float64, name string) *Dense {
	d := &Dense{n: n, q: blas64.General{Rows: n, Cols: n, Stride: n, Data: q}, name: name}
	d.scratch.New = func() any {
		s := make([]float64, n)
		return &s
	}
	return d
}

// NewRandomOrthogonal returns a matrix drawn evenly from all orthogonal ones:
// Q of the QR decomposition of a Gaussian matrix from PCG(seed, stream), its
// columns multiplied by the signs of R's diagonal (Mezzadri,
// arXiv math-ph/0609050). It has any order; Hadamard matrices do better.
func NewRandomOrthogonal(n int, seed, stream uint64) (*Dense, error) {
	if n < 1 {
		return nil, &fault.Error{Err: ErrRotation, Found: fmt.Sprintf("order %d", n), Wanted: "at least 1"}
	}
	rng := rand.New(rand.NewPCG(seed, stream))
	gauss := make([]float64, n*n)
	for i := range gauss {
		gauss[i] = rng.NormFloat64()
	}
	var qr mat.QR
	qr.Factorize(mat.NewDense(n, n, gauss))
	var q, r mat.Dense
	qr.QTo(&q)
	qr.RTo(&r)
	data := q.RawMatrix().Data
	for j := range n {
		if r.At(j, j) < 0 {
			for i := range n {
				data[i*n+j] = -data[i*n+j]
			}
		}
	}
	return newDense(n, data, fmt.Sprintf("random-orthogonal %d, seed %d, stream %d", n, seed, stream)), nil
}

// Order is n.
func (d *Dense) Order() int { return d.n }

// Rotate replaces row by row·Q.
func (d *Dense) Rotate(row []float64) { d.multiply(blas.Trans, row) }

// Unrotate replaces row by row·Qᵀ.
func (d *Dense) Unrotate(row []float64) { d.multiply(blas.NoTrans, row) }

func (d *Dense) multiply(t blas.Transpose, row []float64) {
	if len(row) != d.n {
		panic("smoothing: length of the row is not the order of the rotation")
	}
	s := d.scratch.Get().(*[]float64)
	copy(*s, row)
	blas64.Gemv(t, 1, d.q, blas64.Vector{N: d.n, Inc: 1, Data: *s}, 0, blas64.Vector{N: d.n, Inc: 1, Data: row})
	d.scratch.Put(s)
}

// Then returns Q·R, written out: rotate by d, then by r, of the same order.
func (d *Dense) Then(r Orthogonal) *Dense {
	product := append([]float64(nil), d.q.Data...)
	rotateRows(r, blas64.General{Rows: d.n, Cols: d.n, Stride: d.n, Data: product})
	return newDense(d.n, product, d.name+", then "+r.String())
}

// String says what the matrix was made from.
func (d *Dense) String() string { return d.name }
