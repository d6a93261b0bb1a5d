package smoothing

import "quantize/model"

// Down rotates the input of down at run time, x' = Hx, and the rows of its
// weight beforehand (R4 of SpinQuant, arXiv 2405.16406; the online Hadamard of
// QuaRot, arXiv 2404.00456): (W Hᵀ)(H x) = W x. Both sides apply the same
// transform to a row. A model folded with it needs that run-time work, the
// Hadamard of a kernels backend as model.Runtime.DownIn. It goes after any
// scaling of the channels between up and down.
type Down struct {
	down string // module name
	h    *Hadamard
	model.BlocksOnly
}

var _ model.Transform = (*Down)(nil)

// NewDown plans the rotation by h, Hadamard or block-diagonal, of order
// cfg.Intermediate (ErrRotation).
func NewDown(cfg *model.Config, h *Hadamard) (*Down, error) {
	if err := orderIs(h, cfg.Intermediate, "input of down"); err != nil {
		return nil, err
	}
	t := &Down{h: h}
	for _, l := range cfg.Arch.Linears {
		if l.Role == model.RoleDown {
			t.down = l.Name
		}
	}
	return t, nil
}

// Hadamard is the matrix that the run-time side applies.
func (t *Down) Hadamard() *Hadamard { return t.h }

// Block is W <- W Hᵀ for down.
func (t *Down) Block(_ int, p model.Params) { rotateRows(t.h, whole(p.Weight(t.down))) }
