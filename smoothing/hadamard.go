package smoothing

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"quantize/internal/fault"
)

// ErrNoHadamard marks an order that no Hadamard matrix of this package has.
var ErrNoHadamard = errors.New("no Hadamard matrix of this order")

// Hadamard is an orthonormal matrix H of ±1/√(n/b): b equal blocks on the
// diagonal, zeros elsewhere, each block
//
//	(H_m1 ⊗ H_m2 ⊗ H_2^k) / √(m1·m2·2^k)
//
// with Paley's matrices H_m, of which there may be none, and Sylvester's H_2^k
// in natural order, element (i, j) = (-1)^popcount(i AND j) (methods.md 3.6).
// H is not symmetric when there is an m. As an [Orthogonal] it is Q = Hᵀ, so
// that rotating a row is [Hadamard.Apply]. It is safe for concurrent use.
type Hadamard struct {
	n, blocks int
	paley     []*paleyFactor // outermost first
	sylvester int            // 2^k
	scale     float64        // 1/√(n/blocks)
	scratch   sync.Pool      // *[]float64, [columns] times the largest m
}

// NewHadamard returns the Hadamard matrix of order n that takes the fewest
// additions: 2^k, or 2^k times one or two Paley orders (ties: the smallest
// first). Where there is none the error is ErrNoHadamard and lists the orders;
// [BlockHadamard] then serves even n.
func NewHadamard(n int) (*Hadamard, error) {
	var all [][]int
	offer := func(paley ...int) {
		rest := n
		for _, m := range paley {
			if rest%m != 0 {
				return
			}
			rest /= m
		}
		if rest > 0 && rest&(rest-1) == 0 {
			all = append(all, paley)
		}
	}
	offer()
	for i, m := range paleyOrders {
		offer(m)
		for _, larger := range paleyOrders[i:] {
			offer(m, larger)
		}
	}
	if len(all) == 0 {
		return nil, noHadamard(n)
	}
	return newHadamard(n, 1, slices.MinFunc(all, func(a, b []int) int {
		return cmp.Or(cmp.Compare(perElement(n, a), perElement(n, b)), slices.Compare(a, b))
	})), nil
}

// BlockHadamard returns the block-diagonal matrix of Hadamard matrices of the
// largest power of two that divides n. It spreads an outlier over its block
// only; callers report it by its String. An odd n is ErrNoHadamard.
func BlockHadamard(n int) (*Hadamard, error) {
	if n < 2 || n%2 != 0 {
		return nil, noHadamard(n)
	}
	return newHadamard(n, n>>bits.TrailingZeros(uint(n)), nil), nil
}

func newHadamard(n, blocks int, paley []int) *Hadamard {
	h := &Hadamard{n: n, blocks: blocks, sylvester: n / blocks, scale: 1 / math.Sqrt(float64(n/blocks))}
	largest := 0
	for _, m := range paley {
		h.sylvester /= m
		largest = max(largest, m)
	}
	stride := n / blocks
	for _, m := range paley {
		stride /= m
		h.paley = append(h.paley, newPaleyFactor(m, stride))
	}
	h.scratch.New = func() any {
		s := make([]float64, columns*largest)
		return &s
	}
	return h
}

func noHadamard(n int) error {
	orders := make([]string, len(paleyOrders))
	for i, m := range paleyOrders {
		orders[i] = fmt.Sprint(m)
	}
	hint := "an orthogonal matrix that is not Hadamard's has any order: random-orthogonal"
	if n > 1 && n%2 == 0 {
		hint = fmt.Sprintf("a block-diagonal Hadamard rotates in blocks of %d; ", n&-n) + hint
	}
	return &fault.Error{
		Err: ErrNoHadamard, Found: fmt.Sprintf("order %d", n),
		Wanted: "a power of two, alone or times one or two of " + strings.Join(orders, ", "), Hint: hint,
	}
}

// Order is n.
func (h *Hadamard) Order() int { return h.n }

// Blocks is the number of blocks on the diagonal, 1 for a Hadamard matrix.
func (h *Hadamard) Blocks() int { return h.blocks }

// Factors lists the orders of the Kronecker factors of a block, outermost
// first: the Paley orders, then 2^k unless it is 1 beside others. Their product
// is n/Blocks.
func (h *Hadamard) Factors() []int {
	var all []int
	for _, f := range h.paley {
		all = append(all, f.m)
	}
	if h.sylvester > 1 || len(all) == 0 {
		all = append(all, h.sylvester)
	}
	return all
}

// FactorSign is element (i, j), 1 or -1, of a factor, by its place in Factors.
func (h *Hadamard) FactorSign(factor, i, j int) int8 {
	if factor < len(h.paley) {
		return h.paley[factor].sign[i][j]
	}
	return 1 - 2*int8(bits.OnesCount(uint(i&j))&1)
}

// Sign is element (i, j) of H without its scale: 1, -1, or 0 outside the blocks.
func (h *Hadamard) Sign(i, j int) int8 {
	low := h.sylvester - 1
	s := h.FactorSign(len(h.paley), i&low, j&low)
	i, j = i/h.sylvester, j/h.sylvester
	for _, f := range slices.Backward(h.paley) {
		s *= f.sign[i%f.m][j%f.m]
		i, j = i/f.m, j/f.m
	}
	if i != j { // what is left is the number of the block
		return 0
	}
	return s
}

// Dense returns H (n, n) row-major, for small n.
func (h *Hadamard) Dense() []float64 {
	d := make([]float64, h.n*h.n)
	for i := range h.n {
		for j := range h.n {
			d[i*h.n+j] = float64(h.Sign(i, j)) * h.scale
		}
	}
	return d
}

// Additions is the cost of one transform, n·(k + Σm).
func (h *Hadamard) Additions() int {
	m := make([]int, len(h.paley))
	for i, f := range h.paley {
		m[i] = f.m
	}
	return h.n * perElement(h.n/h.blocks, m)
}

// perElement is k + Σm for 2^k = n/Πm.
func perElement(n int, paley []int) int {
	sum := 0
	for _, m := range paley {
		n /= m
		sum += m
	}
	return sum + bits.TrailingZeros(uint(n))
}

// String says which matrix it is: "hadamard 14336 = 28 x 512", or
// "block-hadamard 13696 = 107 blocks of 128".
func (h *Hadamard) String() string {
	if h.blocks > 1 {
		return fmt.Sprintf("block-hadamard %d = %d blocks of %d", h.n, h.blocks, h.sylvester)
	}
	factors := h.Factors()
	if len(factors) == 1 {
		return fmt.Sprintf("hadamard %d", h.n)
	}
	text := fmt.Sprintf("hadamard %d = %d", h.n, factors[0])
	for _, f := range factors[1:] {
		text += fmt.Sprintf(" x %d", f)
	}
	return text
}
