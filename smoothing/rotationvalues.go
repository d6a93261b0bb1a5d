package smoothing

import (
	"fmt"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
)

// Values rotates each head of the values, v' = vR, and takes it back in o (R2
// of SpinQuant, arXiv 2405.16406). Attention mixes tokens and not channels, so
// that it is exact and free at run time:
//
//	W_v[h] <- Rᵀ W_v[h],  b_v[h] <- b_v[h] R          rows of KV head h
//	W_o[:, hq] <- W_o[:, hq] R                        hq = h·G .. h·G + G-1
//
// for G = Heads/KVHeads query heads that read KV head h.
type Values struct {
	v, o              string // module names
	heads, group, dim int
	rotation          func(layer, head int) Orthogonal
	model.BlocksOnly
}

var _ model.Transform = (*Values)(nil)

// NewValues plans the rotation of KV head head of layer by rotation(layer,
// head), of order cfg.HeadDim (ErrRotation). rotation must give equal matrices
// whenever it is asked, from any goroutine.
func NewValues(cfg *model.Config, rotation func(layer, head int) Orthogonal) (*Values, error) {
	t := &Values{heads: cfg.KVHeads, group: cfg.Heads / cfg.KVHeads, dim: cfg.HeadDim, rotation: rotation}
	for _, l := range cfg.Arch.Linears {
		switch l.Role {
		case model.RoleV:
			t.v = l.Name
		case model.RoleO:
			t.o = l.Name
		default:
		}
	}
	for layer := range cfg.Layers {
		for head := range cfg.KVHeads {
			if err := orderIs(rotation(layer, head), cfg.HeadDim, fmt.Sprintf("values of layer %d, head %d", layer, head)); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// HadamardValues rotates every head by the same Hadamard matrix. A head that
// has none is ErrNoHadamard.
func HadamardValues(cfg *model.Config) (*Values, error) {
	h, err := NewHadamard(cfg.HeadDim)
	if err != nil {
		return nil, err
	}
	return NewValues(cfg, func(int, int) Orthogonal { return h })
}

// RandomHadamardValues rotates all heads of a layer by one random Hadamard
// matrix, with signs from PCG(seed, layer+1).
func RandomHadamardValues(cfg *model.Config, seed uint64) (*Values, error) {
	h, err := NewHadamard(cfg.HeadDim)
	if err != nil {
		return nil, err
	}
	layers := make([]Orthogonal, cfg.Layers)
	for i := range layers {
		layers[i] = NewRandomHadamard(h, seed, uint64(i)+1)
	}
	return NewValues(cfg, func(layer, _ int) Orthogonal { return layers[layer] })
}

// PCAValues rotates each head to the principal axes of its own values.
// moments[layer] is the second moment of all KV heads of the layer together,
// K = KVHeads·HeadDim, as collected at model.V.
func PCAValues(cfg *model.Config, moments []*calibrate.Hessian) (*Values, error) {
	return principalValues(cfg, moments, func(_ int, h *calibrate.Hessian) (*Dense, error) { return NewPCA(h) })
}

// PCAHadamardValues is PCAValues followed by the layer's random Hadamard
// matrix, that of RandomHadamardValues.
func PCAHadamardValues(cfg *model.Config, moments []*calibrate.Hessian, seed uint64) (*Values, error) {
	return principalValues(cfg, moments, func(layer int, h *calibrate.Hessian) (*Dense, error) {
		return NewPCAHadamard(h, seed, uint64(layer)+1)
	})
}

func principalValues(cfg *model.Config, moments []*calibrate.Hessian, rotation func(layer int, h *calibrate.Hessian) (*Dense, error)) (*Values, error) {
	if len(moments) != cfg.Layers {
		return nil, &fault.Error{
			Err: ErrRotation, Where: "values",
			Found: fmt.Sprintf("second moments of %d layers", len(moments)), Wanted: fmt.Sprint(cfg.Layers),
		}
	}
	all := make([]*Dense, 0, cfg.Layers*cfg.KVHeads)
	for layer, m := range moments {
		if m == nil || m.K != cfg.KVHeads*cfg.HeadDim {
			return nil, &fault.Error{
				Err: ErrRotation, Where: fmt.Sprintf("values of layer %d", layer), Found: "no second moment of that width",
				Wanted: fmt.Sprintf("%d channels", cfg.KVHeads*cfg.HeadDim), Hint: "collect the Hessian of " + string(model.V),
			}
		}
		for head := range cfg.KVHeads {
			q, err := rotation(layer, headMoment(m, head, cfg.HeadDim))
			if err != nil {
				return nil, fmt.Errorf("values of layer %d, head %d: %w", layer, head, err)
			}
			all = append(all, q)
		}
	}
	return NewValues(cfg, func(layer, head int) Orthogonal { return all[layer*cfg.KVHeads+head] })
}

// Block rotates the rows of v and the columns of o.
func (t *Values) Block(layer int, p model.Params) {
	v, o, bias := whole(p.Weight(t.v)), whole(p.Weight(t.o)), p.Bias(t.v)
	for h := range t.heads {
		r := t.rotation(layer, h)
		rotateColumns(r, cut(v, h*t.dim, 0, t.dim, v.Cols))
		if bias != nil {
			r.Rotate(bias[h*t.dim : (h+1)*t.dim])
		}
		for hq := h * t.group; hq < (h+1)*t.group; hq++ {
			rotateRows(r, cut(o, 0, hq*t.dim, o.Rows, t.dim))
		}
	}
}
