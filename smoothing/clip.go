package smoothing

import (
	"fmt"
	"math"
	"slices"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// ClipOptions are the options of [Clip].
type ClipOptions struct {
	GroupSize int               // columns of a row that are clipped alike; 0: 128
	Ratios    int               // ratios that are tried, 1 - i/20 for i from 0; 0: 10, at most 20
	MatMulT   calibrate.MatMulT // FP32 products; nil: plain Go, slow
}

// Clipping bounds the weights of a linear.
type Clipping struct {
	Module    string
	GroupSize int
	// Limit (N, ceil(K/GroupSize)) is the largest |w| that a group of a row keeps;
	// +Inf where the group is not clipped.
	Limit tensor.Matrix
	// Error is the objective of the chosen ratios, Unclipped that of ratio 1
	// everywhere, both summed over rows and groups.
	Error, Unclipped float64
}

// Clamp returns a copy of the weight (N, K) with every element inside its limit.
func (c *Clipping) Clamp(w *model.Param) *model.Param {
	out := &model.Param{Rows: w.Rows, Cols: w.Cols, Data: slices.Clone(w.Data)}
	for i := range out.Rows {
		limits, row := c.Limit.Row(i), out.Row(i)
		for j, v := range row {
			limit := float64(limits[j/c.GroupSize])
			row[j] = max(min(v, limit), -limit)
		}
	}
	return out
}

// Clip finds how far each group of each row may be clipped before it is rounded
// (auto_clip of Lin et al. 2023, arXiv 2306.00978, section 3.2 and code;
// methods.md 4.2 and 4.5, objective B):
//
//	for ratio = 1, 0.95 .. 0.55:  e = Fake(clamp(w, ±ratio·amax)) - w
//	take the ratio with the smallest Σ_tokens (Σ_{j in group} x_j e_j)² = eᵀ H_gg e
//
// with H_gg the group's block on the diagonal of H. The larger of equal ratios
// wins. q and k are left alone: their errors pass through a softmax.
//
// p is the block as it will be rounded, after all other transforms, and hessians
// are of its activations ([Plan.Hessian] makes them from those before scaling);
// neither is changed. All groups of a row are tried at one ratio: a rounding
// that ties the groups of a row together (a factor of the row, as packer's grid
// has) sees another mixture in the end. A Fake that searches its scales clips as
// it does so, weight by weight or weighted by channel; Clip is the alternative
// for one that takes amax/7, and weighs errors with the whole of H_gg.
//
// One Clipping is returned for each linear, in the order of Config.Linears, but for
// experts that no token reached: nothing says what clipping would cost them. Gate
// and up of experts are judged by the tokens of all. Sites without a Hessian and
// bad options are [ErrScale].
func Clip(cfg *model.Config, layer int, p model.Params, hessians map[model.Point]*calibrate.Hessian, quant Fake, o ClipOptions) ([]Clipping, error) {
	if o.GroupSize == 0 {
		o.GroupSize = 128
	}
	if o.Ratios == 0 {
		o.Ratios = 10
	}
	if o.GroupSize < 0 || o.Ratios < 0 || o.Ratios > 20 {
		return nil, &fault.Error{Err: ErrScale, Where: "clip options", Found: fmt.Sprintf("groups of %d, %d ratios", o.GroupSize, o.Ratios), Wanted: "a positive size, 1 to 20 ratios"}
	}
	var all []Clipping
	feeds := cfg.Feeds(layer)
	for _, l := range cfg.Linears(layer) {
		i := slices.IndexFunc(feeds, func(f model.Feed) bool { return slices.Contains(f.To, l.Name) })
		if i < 0 || l.Role == model.RoleQ || l.Role == model.RoleK {
			continue
		}
		w := p.Weight(l.Name)
		point := feeds[i].Site
		if unreached(hessians[point] == nil, point) {
			continue
		}
		where := fmt.Sprintf("layer %d, %s", layer, l.Name)
		if err := checkHessian(where, hessians[point], w.Cols); err != nil {
			return nil, err
		}
		c := &clipper{ClipOptions: o, where: where, weight: w, hessian: hessians[point], fake: quant}
		clipping, err := c.run(l.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, clipping)
	}
	return all, nil
}

// clipRows are worked on at a time.
const clipRows = 256

// clipper searches one linear. Its work areas hold clipRows rows.
type clipper struct {
	ClipOptions
	where   string
	weight  *model.Param
	hessian *calibrate.Hessian
	fake    Fake

	clamped, rounded, product []float32
	blocks                    []tensor.Matrix // H_gg of each group, divided by unit
	unit                      float64         // the largest of H's diagonal
}

func (c *clipper) run(module string) (Clipping, error) {
	k := c.weight.Cols
	groups := (k + c.GroupSize - 1) / c.GroupSize
	out := Clipping{Module: module, GroupSize: c.GroupSize, Limit: tensor.NewMatrix(c.weight.Rows, groups)}
	c.diagonal(groups)
	best := make([]float64, clipRows*groups)
	for from := 0; from < c.weight.Rows; from += clipRows {
		n := min(clipRows, c.weight.Rows-from)
		for i := range c.Ratios {
			ratio := 1 - float64(i)/20
			delta, err := c.delta(from, n, ratio)
			if err != nil {
				return Clipping{}, err
			}
			for g := range groups {
				for r, e := range c.energies(delta, g) {
					b := &best[r*groups+g]
					switch {
					case i == 0:
						*b = e
						out.Unclipped += float64(e * c.unit)
						out.Limit.Row(from + r)[g] = float32(math.Inf(1))
					case e < *b:
						*b = e
						out.Limit.Row(from + r)[g] = float32(ratio * largest(c.group(from+r, g)))
					}
				}
			}
		}
		for _, e := range best[:n*groups] {
			out.Error += float64(e * c.unit)
		}
	}
	if math.IsNaN(out.Unclipped) || math.IsInf(out.Unclipped, 0) {
		return Clipping{}, &fault.Error{
			Err: ErrScale, Where: c.where, Found: fmt.Sprintf("an output error of %v", out.Unclipped), Wanted: "a finite one",
			Hint: "weights or activations are not finite?",
		}
	}
	return out, nil
}

// diagonal takes the blocks of H in FP32.
func (c *clipper) diagonal(groups int) {
	k := c.hessian.K
	for i := range k {
		c.unit = max(c.unit, c.hessian.Data[i*k+i])
	}
	if c.unit == 0 {
		c.unit = 1
	}
	for g := range groups {
		from, end := c.span(g)
		block := tensor.NewMatrix(end-from, end-from)
		for i := range block.Rows {
			for j, v := range c.hessian.Data[(from+i)*k+from : (from+i)*k+end] {
				block.Row(i)[j] = float32(v / c.unit)
			}
		}
		c.blocks = append(c.blocks, block)
	}
}

func (c *clipper) span(g int) (from, end int) {
	return g * c.GroupSize, min((g+1)*c.GroupSize, c.weight.Cols)
}

func (c *clipper) group(row, g int) []float64 {
	from, end := c.span(g)
	return c.weight.Row(row)[from:end]
}

// delta returns what rounding makes of n rows, clamped at ratio, less the rows.
func (c *clipper) delta(first, n int, ratio float64) (tensor.Matrix, error) {
	k := c.weight.Cols
	clamped := tensor.MatrixOf(n, k, enough(&c.clamped, n*k))
	rounded := tensor.MatrixOf(n, k, enough(&c.rounded, n*k))
	sharedOut(n, 1+fewestWeights/k, func(from, end int) {
		for i := from; i < end; i++ {
			row := clamped.Row(i)
			for g := range c.blocks {
				weights := c.group(first+i, g)
				limit := ratio * largest(weights)
				at, _ := c.span(g)
				for j, v := range weights {
					row[at+j] = float32(max(min(v, limit), -limit))
				}
			}
		}
	})
	if err := c.fake(rounded, clamped); err != nil {
		return tensor.Matrix{}, fmt.Errorf("%s: %w", c.where, err)
	}
	sharedOut(n, 1+fewestWeights/k, func(from, end int) {
		for i := from; i < end; i++ {
			row := rounded.Row(i)
			for j, v := range c.weight.Row(first + i) {
				row[j] = float32(float64(row[j]) - v)
			}
		}
	})
	return rounded, nil
}

// energies is eᵀ H_gg e / unit of each row.
func (c *clipper) energies(delta tensor.Matrix, g int) []float64 {
	from, end := c.span(g)
	e := delta.ColRange(from, end)
	product := tensor.MatrixOf(e.Rows, e.Cols, enough(&c.product, e.Rows*e.Cols))
	multiply(c.MatMulT, product, e, c.blocks[g])
	sums := make([]float64, e.Rows)
	sharedOut(e.Rows, 1+fewestWeights/e.Cols, func(from, end int) {
		for i := from; i < end; i++ {
			row := e.Row(i)
			for j, v := range product.Row(i) {
				sums[i] += float64(float64(v) * float64(row[j]))
			}
		}
	})
	return sums
}
