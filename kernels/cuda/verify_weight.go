//go:build cuda

package cuda

import (
	"fmt"
	"math/rand/v2"

	"quantize/packer"
)

// CheckWeight multiplies random tokens by w with the kernels that [Dispatch]
// chooses for few and many tokens, in arithmetic a (packer.Exact or packer.LUT),
// and compares with float64 from the stored codes. It returns the largest relative
// error beyond that of BF16, and an error where that is out of bounds.
func (s *Session) CheckWeight(w *packer.Int4Weight, a packer.Arithmetic) (worst float64, err error) {
	bound := boundRandom
	if a == packer.LUT {
		bound = boundTable
	}
	for i, m := range []int{1, 16, 61, 130, 520} {
		e, err := s.excessOf(w, a, m, rand.New(rand.NewPCG(13, uint64(i))))
		if err != nil {
			return worst, err
		}
		if worst = max(worst, e); !(e <= bound) {
			return e, wrong(fmt.Sprintf("M %d, N %d, K %d", m, w.N, w.K), fmt.Sprintf("relative error %.3g beyond BF16", e), fmt.Sprintf("at most %g", bound))
		}
	}
	return worst, nil
}

func (s *Session) excessOf(w *packer.Int4Weight, a packer.Arithmetic, m int, r *rand.Rand) (float64, error) {
	p, err := s.newProduct(w, a, nil, m)
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.free(s) }()
	if err := s.fillActivations(p.x, r, func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }); err != nil {
		return 0, err
	}
	want, err := s.Reference(w, nil, p.x, a, everything(m, w.N))
	if err != nil {
		return 0, err
	}
	y, err := p.multiply(s, Dispatch(m, w.N, w.K, a))
	if err != nil {
		return 0, err
	}
	return excess(y, want), nil
}
