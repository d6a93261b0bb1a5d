package smoothing

import (
	"slices"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
)

// Wrong rotations change the logits: what the other tests would catch.
func TestWrongRotationsBreakTheFunction(t *testing.T) {
	t.Parallel()
	caught := map[string]int{}
	for _, shape := range modeltest.Shapes() {
		r := newRotated(31, shape)
		stream := r.residual(t, NewRandomHadamard(hadamard(t, r.cfg.Hidden), 2, 0))
		broken := map[string]model.Transform{}
		if r.cfg.KVHeads > 1 && r.cfg.KVHeads < r.cfg.Heads { // else all maps are one
			broken["query head hq reads KV head hq % KVHeads"] = wrongGroups{r.everyHead(t)}
		}
		if r.cfg.Biased(rule(r.cfg, model.RoleV)) {
			broken["the bias of v stays"] = keeping{r.everyHead(t), model.RoleV, r.cfg}
		}
		for _, l := range r.cfg.Arch.Linears {
			if l.Role.Writes() && r.cfg.Biased(l) {
				broken["the bias of "+l.Name+" stays"] = keeping{stream, l.Role, r.cfg}
			}
		}
		broken["Q and not its transpose in o and down"] = transposed{stream}
		if down := r.down(t); down != nil {
			broken["H and not its transpose for down"] = transposedDown{down}
		}
		broken["norms stay"] = keepingNorms{stream}
		for what, x := range broken {
			h := (*Hadamard)(nil)
			if d, ok := x.(transposedDown); ok {
				h = d.Hadamard()
			}
			if d := r.off(h, x); !(d > 1e-3) {
				t.Errorf("%s: %s: logits move by %g only", shape.Name, what, d)
			}
			caught[what]++
		}
	}
	if len(caught) != 7 {
		t.Errorf("only these were tried: %v", caught)
	}
}

func rule(cfg *model.Config, role model.Role) model.LinearRule {
	i := slices.IndexFunc(cfg.Arch.Linears, func(l model.LinearRule) bool { return l.Role == role })
	return cfg.Arch.Linears[i]
}

// wrongGroups rotates the columns of o as if query heads went round the KV heads.
type wrongGroups struct{ *Values }

func (w wrongGroups) Block(layer int, p model.Params) {
	t := w.Values
	o := p.Weight(t.o)
	kept := slices.Clone(o.Data)
	t.Block(layer, p)
	copy(o.Data, kept)
	for hq := range t.heads * t.group {
		rotateRows(t.rotation(layer, hq%t.heads), cut(whole(o), 0, hq*t.dim, o.Rows, t.dim))
	}
}

// keeping forgets the bias of one linear.
type keeping struct {
	model.Transform
	role model.Role
	cfg  *model.Config
}

func (k keeping) Block(layer int, p model.Params) {
	bias := p.Bias(rule(k.cfg, k.role).Name)
	kept := slices.Clone(bias)
	k.Transform.Block(layer, p)
	copy(bias, kept)
}

// transposed writes to the residual stream in the basis of Qᵀ.
type transposed struct{ *Residual }

func (x transposed) Block(layer int, p model.Params) {
	x.Residual.Block(layer, p)
	for _, l := range x.config.Linears(layer) {
		if l.Role.Writes() {
			w := p.Weight(l.Name)
			column := make([]float64, w.Rows)
			for j := range w.Cols {
				for i := range column {
					column[i] = w.Data[i*w.Cols+j]
				}
				x.q.Unrotate(column)
				x.q.Unrotate(column)
				for i, v := range column {
					w.Data[i*w.Cols+j] = v
				}
			}
		}
	}
}

// transposedDown multiplies the weight by H where Hᵀ belongs.
type transposedDown struct{ *Down }

func (x transposedDown) Block(layer int, p model.Params) {
	for _, l := range x.config.Linears(layer) {
		if l.Role == model.RoleO || !l.Role.Writes() {
			continue
		}
		w := p.Weight(l.Name)
		for i := range w.Rows {
			x.h.ApplyTransposed(w.Row(i))
		}
	}
}

// keepingNorms multiplies by the norms once more at run time.
type keepingNorms struct{ *Residual }

func (x keepingNorms) Block(layer int, p model.Params) {
	kept := map[string][]float64{}
	for _, f := range x.config.Feeds(layer) {
		if f.Site == model.AttnIn || f.Site == model.MLPIn {
			kept[f.From] = slices.Clone(p.Weight(f.From).Data)
		}
	}
	x.Residual.Block(layer, p)
	for from, norm := range kept {
		copy(p.Weight(from).Data, norm)
	}
}

// A head's own principal axes: its values are uncorrelated afterwards, those of
// the other heads are not looked at.
func TestHeadMomentsAreCutOut(t *testing.T) {
	t.Parallel()
	const heads, dim = 3, 4
	x := correlated(1, 50, heads*dim)
	all := momentOf(heads*dim, x)
	for h := range heads {
		var own []float64
		for i := 0; i < len(x); i += heads * dim {
			own = append(own, x[i+h*dim:i+(h+1)*dim]...)
		}
		if d := apart(headMoment(all, h, dim).Data, momentOf(dim, own).Data); d != 0 {
			t.Errorf("head %d: off by %g", h, d)
		}
	}
}
