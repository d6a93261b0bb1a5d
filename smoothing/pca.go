package smoothing

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"quantize/calibrate"
	"quantize/internal/fault"
)

// NewPCA returns the eigenvectors of a second moment Σ xᵀx (not centred), as
// columns in the order of falling eigenvalues; the largest component of each is
// positive (the first of equals). Rotated activations are uncorrelated and
// their energy sits in the first channels, which serves slicing (SliceGPT,
// arXiv 2401.15024) and harms rounding to few bits: see [NewPCAHadamard].
func NewPCA(moment *calibrate.Hessian) (*Dense, error) {
	q, _, err := principal(moment)
	return q, err
}

// NewPCAHadamard is NewPCA followed by a random Hadamard matrix of that order,
// drawn from PCG(seed, stream): the energy, first gathered, is spread evenly.
func NewPCAHadamard(moment *calibrate.Hessian, seed, stream uint64) (*Dense, error) {
	h, err := NewHadamard(moment.K)
	if err != nil {
		return nil, err
	}
	q, err := NewPCA(moment)
	if err != nil {
		return nil, err
	}
	return q.Then(NewRandomHadamard(h, seed, stream)), nil
}

// principal also returns the eigenvalues, largest first.
func principal(moment *calibrate.Hessian) (*Dense, []float64, error) {
	n := moment.K
	for i, v := range moment.Data {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, nil, momentFault(n, fmt.Sprintf("%v at (%d, %d)", v, i/n, i%n), "finite numbers")
		}
	}
	var eigen mat.EigenSym
	if n < 1 || len(moment.Data) != n*n || !eigen.Factorize(mat.NewSymDense(n, moment.Data), true) {
		return nil, nil, momentFault(n, "no eigenvalues", "a symmetric (K, K) matrix")
	}
	rising := eigen.Values(nil)
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	q, values := make([]float64, n*n), make([]float64, n)
	for j := range n {
		from := n - 1 - j
		values[j] = max(rising[from], 0) // a second moment has none below, but for rounding
		top := 0.0
		for i := range n {
			if v := vectors.At(i, from); math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		sign := math.Copysign(1, top)
		for i := range n {
			q[i*n+j] = sign * vectors.At(i, from)
		}
	}
	return newDense(n, q, fmt.Sprintf("pca %d", n)), values, nil
}

func momentFault(n int, found, wanted string) error {
	return &fault.Error{
		Err: ErrRotation, Where: fmt.Sprintf("second moment of %d channels", n), Found: found, Wanted: wanted,
		Hint: "collect the statistics again",
	}
}

// AddResidualMoment adds the second moment of one norm's output, which carries
// the norm's weight, to sum without that weight: Σ x̂ᵀx̂ of x̂ = h/rms(h). One
// matrix rotates the whole residual stream, so it is made from the sum over
// every norm of the model (methods.md 3.7). A channel whose weight is zero says
// nothing and adds nothing.
func AddResidualMoment(sum, site *calibrate.Hessian, norm []float64) {
	if sum.K != site.K || len(norm) != site.K {
		panic("smoothing: second moments and norm differ in width")
	}
	for i, a := range norm {
		for j, b := range norm {
			if w := a * b; w != 0 {
				sum.Data[i*sum.K+j] += site.Data[i*sum.K+j] / w
			}
		}
	}
}

// headMoment is the block of one head in the second moment of all.
func headMoment(all *calibrate.Hessian, head, dim int) *calibrate.Hessian {
	h := &calibrate.Hessian{K: dim, Data: make([]float64, 0, dim*dim)}
	for i := head * dim; i < (head+1)*dim; i++ {
		h.Data = append(h.Data, all.Data[i*all.K+head*dim:i*all.K+(head+1)*dim]...)
	}
	return h
}

// Latent rotates the latents c (d) of multi-head latent attention so that two
// devices can keep half of cU each (TPLA, arXiv 2508.15881, section 4).
type Latent struct {
	U *Dense
	// Alpha and Beta are Σ|c|² over Σ|(cU)_0|² and over Σ|(cU)_1|² of the first
	// and second half: what a device multiplies the square sum of its half by to
	// get the norm of the whole. The paper's eq. 25 gives the reciprocals, which
	// its own condition |c|² ≈ α|(cU)_0|² excludes.
	Alpha, Beta float64
}

// LatentPCA makes U from the second moment of the latents after their norm,
// the norm's weight and the position part left out. d must be even and the
// latents must reach beyond d/2 dimensions.
func LatentPCA(moment *calibrate.Hessian) (Latent, error) {
	if moment.K%2 != 0 {
		return Latent{}, momentFault(moment.K, "an odd number of channels", "an even one, for two halves")
	}
	u, values, err := principal(moment)
	if err != nil {
		return Latent{}, err
	}
	var half [2]float64
	for i, v := range values {
		half[i*2/moment.K] += v
	}
	total := half[0] + half[1]
	if !(half[1] > float64(moment.K)*0x1p-52*total) {
		return Latent{}, momentFault(moment.K, "all energy in the first half", "some in the second, beyond rounding")
	}
	return Latent{U: u, Alpha: total / half[0], Beta: total / half[1]}, nil
}
