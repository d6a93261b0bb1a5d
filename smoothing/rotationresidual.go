package smoothing

import (
	"fmt"

	"quantize/internal/fault"
	"quantize/model"
)

// Residual rotates the residual stream, h' = hQ (R1 of SpinQuant,
// arXiv 2405.16406; QuaRot, arXiv 2404.00456, section 4). Each norm's weight
// first moves into the columns of all its readers, since only a norm without
// weight commutes with Q:
//
//	embedding <- E Q           readers of a norm <- W diag(γ) Q,  γ <- 1
//	head      <- W diag(γ) Q   writers (o, down) <- Qᵀ W,  b <- bQ
//
// A router reads the norm like a linear, and chooses as before. The norms of
// queries and keys stay: RoPE follows them, and no linear. It
// fits models whose residual stream only norms at the input of a block's
// halves read, as all tables of package model are.
type Residual struct {
	config *model.Config
	q      Orthogonal
}

var _ model.Transform = (*Residual)(nil)

// NewResidual plans the rotation by q, whose order must be cfg.Hidden
// (ErrRotation).
func NewResidual(cfg *model.Config, q Orthogonal) (*Residual, error) {
	if err := orderIs(q, cfg.Hidden, "residual stream"); err != nil {
		return nil, err
	}
	return &Residual{config: cfg, q: q}, nil
}

func orderIs(q Orthogonal, n int, where string) error {
	if q.Order() == n {
		return nil
	}
	return &fault.Error{
		Err: ErrRotation, Where: where,
		Found: fmt.Sprintf("a rotation of order %d (%v)", q.Order(), q), Wanted: fmt.Sprintf("order %d, as config.json says", n),
	}
}

// Block rotates the readers and writers of the residual stream.
func (r *Residual) Block(layer int, p model.Params) {
	for _, f := range r.config.Feeds(layer) {
		if f.Site != model.AttnIn && f.Site != model.MLPIn {
			continue
		}
		norm := p.Weight(f.From).Data
		for _, to := range f.To {
			r.reader(p.Weight(to), norm)
		}
		r.FinalNorm(norm)
	}
	for _, l := range r.config.Linears(layer) {
		if !l.Role.Writes() {
			continue
		}
		rotateColumns(r.q, whole(p.Weight(l.Name)))
		if b := p.Bias(l.Name); b != nil {
			r.q.Rotate(b)
		}
	}
}

// reader is W <- W diag(norm) Q.
func (r *Residual) reader(w *model.Param, norm []float64) {
	sharedOut(w.Rows, max(1, fewestWeights/w.Cols), func(from, to int) {
		for i := from; i < to; i++ {
			row := w.Row(i)
			for j, g := range norm {
				row[j] *= g
			}
		}
	})
	rotateRows(r.q, whole(w))
}

// Embedding rotates rows of the embedding.
func (r *Residual) Embedding(rows *model.Param) { rotateRows(r.q, whole(rows)) }

// Head takes in the final norm and rotates rows of the head.
func (r *Residual) Head(rows *model.Param, finalNorm []float64) { r.reader(rows, finalNorm) }

// FinalNorm sets the weight to one.
func (r *Residual) FinalNorm(norm []float64) {
	for j := range norm {
		norm[j] = 1
	}
}

// Unties is true: the final norm goes into the head and not into the embedding.
func (r *Residual) Unties() bool { return true }

// AddedParams is the number of parameters that a checkpoint gains: a head of
// its own, (Vocab, Hidden), where it was tied.
func (r *Residual) AddedParams(cfg *model.Config) int64 {
	if !cfg.TieEmbeddings {
		return 0
	}
	return int64(cfg.Vocab) * int64(cfg.Hidden)
}

// String names the rotation.
func (r *Residual) String() string { return "residual stream: " + r.q.String() }
