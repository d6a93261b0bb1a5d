package smoothing

import (
	"fmt"

	"quantize/internal/fault"
	"quantize/model"
)

// Down rotates the input of down at run time, x' = Hx, and the rows of its
// weight beforehand (R4 of SpinQuant, arXiv 2405.16406; the online Hadamard of
// QuaRot, arXiv 2404.00456): (W Hᵀ)(H x) = W x. Both sides apply the same
// transform to a row. A model folded with it needs that run-time work, the
// Hadamard of a kernels backend as model.Runtime.DownIn. It goes after any
// scaling of the channels between up and down.
type Down struct {
	config *model.Config
	h      *Hadamard
	model.BlocksOnly
}

var _ model.Transform = (*Down)(nil)

// DownOrder is the width of the input of down, or of every expert's down. One
// matrix serves all of them, so that layers of several widths are ErrRotation.
func DownOrder(cfg *model.Config) (int, error) {
	widths := cfg.DownWidths()
	if len(widths) != 1 {
		return 0, &fault.Error{
			Err: ErrRotation, Where: "input of down", Found: fmt.Sprintf("widths %v", widths),
			Wanted: "one width in all layers, dense and of experts", Hint: "leave rotation.down out",
		}
	}
	return widths[0], nil
}

// NewDown plans the rotation by h, Hadamard or block-diagonal, of the order
// that [DownOrder] gives (ErrRotation).
func NewDown(cfg *model.Config, h *Hadamard) (*Down, error) {
	n, err := DownOrder(cfg)
	if err != nil {
		return nil, err
	}
	if err := orderIs(h, n, "input of down"); err != nil {
		return nil, err
	}
	return &Down{config: cfg, h: h}, nil
}

// Hadamard is the matrix that the run-time side applies.
func (t *Down) Hadamard() *Hadamard { return t.h }

// Block is W <- W Hᵀ for down, of each expert.
func (t *Down) Block(layer int, p model.Params) {
	for _, l := range t.config.Linears(layer) {
		if l.Role == model.RoleDown || l.Role == model.RoleExpertDown {
			rotateRows(t.h, whole(p.Weight(l.Name)))
		}
	}
}
