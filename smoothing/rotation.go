package smoothing

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// ErrRotation marks a rotation that does not fit the model or the statistics it
// is made from.
var ErrRotation = errors.New("invalid rotation")

// Orthogonal is an orthogonal matrix Q (n, n). [Hadamard], [RandomHadamard] and
// [Dense] are; they are safe for concurrent use.
type Orthogonal interface {
	// Order is n.
	Order() int
	// Rotate replaces a row of n by row·Q.
	Rotate(row []float64)
	// Unrotate replaces a row of n by row·Qᵀ.
	Unrotate(row []float64)
	// String names the matrix and what it is made from.
	String() string
}

var _, _, _ Orthogonal = (*Hadamard)(nil), (*RandomHadamard)(nil), (*Dense)(nil)

// RandomHadamard is Q = D·Hᵀ with random signs D on the diagonal: a row's signs
// are flipped, then H is applied (QuaRot, arXiv 2404.00456, section 4).
type RandomHadamard struct {
	h            *Hadamard
	seed, stream uint64
	signs        []float64
}

// NewRandomHadamard draws the signs from PCG(seed, stream).
func NewRandomHadamard(h *Hadamard, seed, stream uint64) *RandomHadamard {
	q := &RandomHadamard{h: h, seed: seed, stream: stream, signs: make([]float64, h.n)}
	rng := rand.New(rand.NewPCG(seed, stream))
	for i := range q.signs {
		q.signs[i] = float64(1 - 2*int(rng.Uint64()>>63))
	}
	return q
}

// Order is n.
func (q *RandomHadamard) Order() int { return q.h.n }

// Rotate replaces row by row·D·Hᵀ.
func (q *RandomHadamard) Rotate(row []float64) {
	q.flip(row)
	q.h.Apply(row)
}

// Unrotate replaces row by row·H·D.
func (q *RandomHadamard) Unrotate(row []float64) {
	q.h.ApplyTransposed(row)
	q.flip(row)
}

func (q *RandomHadamard) flip(row []float64) {
	if len(row) != len(q.signs) {
		panic("smoothing: length of the row is not the order of the rotation")
	}
	for i, s := range q.signs {
		row[i] *= s
	}
}

// String is the Hadamard matrix and what the signs were drawn from.
func (q *RandomHadamard) String() string {
	return fmt.Sprintf("random-%v, seed %d, stream %d", q.h, q.seed, q.stream)
}
