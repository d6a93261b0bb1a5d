package model

import (
	"math"

	"quantize/tensor"
)

// expert holds the linears of one, by role less RoleExpertGate.
type expert [RoleExpertDown - RoleExpertGate + 1]Linear

func (e *expert) linear(r Role) Linear { return e[r-RoleExpertGate] }

// place is where the linear of a rule is kept.
func (b *Block) place(l LinearRule) *Linear {
	if l.Role < RoleExpertGate {
		return &b.linears[l.Role]
	}
	return &b.experts[l.Expert][l.Role-RoleExpertGate]
}

// maxChosen bounds num_experts_per_tok: published models choose at most 16.
const maxChosen = 64

// visit is a token that reached an expert.
type visit struct {
	row   int
	share float32
}

// mixture are the buffers of a block with experts.
type mixture struct {
	scores   tensor.Matrix // (M, Experts): what the router says
	visits   [][]visit     // by expert, in the order of rows
	gathered tensor.Matrix // (visits, Hidden): input of one expert
	produced tensor.Matrix // (visits, Hidden): its output
	mixed    tensor.Matrix // (M, Hidden): the sum over experts
}

// mixture adds the mixture of experts to x (Shazeer et al. 2017, arXiv
// 1701.06538; with softmax before the choice: Mixtral, arXiv 2401.04088, as in
// transformers):
//
//	p = softmax(router(norm(x)))     the k largest, made to sum to 1 where NormTopK says so
//	x += Σ_e p_e · down_e(SiLU(gate_e(norm(x))) * up_e(norm(x)))
//
// Tokens are gathered by expert, so that each expert is three matrix products, and
// a token's sum runs over its experts in the order of their numbers.
func (b *Block) mixture(x tensor.Matrix, observe Observer) {
	s, c := b.buffers, b.model.Config
	b.route(x)
	observe(Site{b.Layer, MLPIn}, s.in)
	resize(&s.mixed, x.Rows, c.Hidden)
	clear(s.mixed.Data)
	for e := range b.experts {
		visits := s.visits[e]
		if len(visits) == 0 {
			continue
		}
		b.gather(visits)
		observe(Site{b.Layer, ExpertIn.Of(e)}, s.gathered)
		b.expertGateUp(e)
		observe(Site{b.Layer, DownIn.Of(e)}, s.gate)
		resize(&s.produced, len(visits), c.Hidden)
		b.experts[e].linear(RoleExpertDown).Forward(s.produced, s.gate)
		for i, v := range visits {
			sum := s.mixed.Row(v.row)
			for j, y := range s.produced.Row(i) {
				sum[j] += float32(v.share * y) // no fused multiply-add: the same bits everywhere
			}
		}
	}
	add(x, s.mixed)
}

// Routing says which rows of a window reach each expert, in their order.
type Routing struct{ rows [][]int32 }

// Rows is how many rows reach an expert.
func (r Routing) Rows(expert int) int { return len(r.rows[expert]) }

// Route chooses the experts of the rows of x, the stream after attention.
func (b *Block) Route(x tensor.Matrix) Routing {
	b.fit(x.Rows)
	b.route(x)
	r := Routing{make([][]int32, len(b.experts))}
	for e, visits := range b.buffers.visits {
		for _, v := range visits {
			r.rows[e] = append(r.rows[e], int32(v.row))
		}
	}
	return r
}

// UntilExpert is Until for the points of one expert: of the rows of x that r sends to
// it, which may be the routing of another version of the block or of x. No rows: no
// token reached it.
func (b *Block) UntilExpert(p Point, x tensor.Matrix, r Routing) tensor.Matrix {
	base, e := p.Expert()
	rows, c := r.rows[e], b.model.Config
	if base == DownIn && len(rows) == 0 {
		return tensor.NewMatrix(0, c.ExpertWidth)
	}
	b.fit(len(rows))
	s := b.buffers
	resize(&s.gathered, len(rows), c.Hidden)
	for i, row := range rows {
		copy(s.gathered.Row(i), x.Row(int(row)))
	}
	b.model.between.RMSNorm(s.gathered, s.gathered, b.mlpNorm, float32(c.NormEps))
	if base == ExpertIn {
		return s.gathered
	}
	b.expertGateUp(e)
	return s.gate
}

// gather leaves the rows of an expert's tokens in buffers.gathered.
func (b *Block) gather(visits []visit) {
	s := b.buffers
	resize(&s.gathered, len(visits), b.model.Config.Hidden)
	for i, v := range visits {
		copy(s.gathered.Row(i), s.in.Row(v.row))
	}
}

// expertGateUp leaves the input of an expert's down in buffers.gate.
func (b *Block) expertGateUp(e int) {
	s, l, width := b.buffers, &b.experts[e], b.model.Config.ExpertWidth
	resize(&s.gate, s.gathered.Rows, width)
	resize(&s.up, s.gathered.Rows, width)
	l.linear(RoleExpertGate).Forward(s.gate, s.gathered)
	l.linear(RoleExpertUp).Forward(s.up, s.gathered)
	b.model.between.SiLUMul(s.gate, s.gate, s.up)
	if rotate := b.model.runtime.DownIn; rotate != nil {
		rotate(s.gate)
	}
}

// route leaves the input of the MLP in buffers.in and chooses the experts of each
// of its rows.
func (b *Block) route(x tensor.Matrix) {
	s, c := b.buffers, b.model.Config
	b.model.between.RMSNorm(s.in, x, b.mlpNorm, float32(c.NormEps))
	resize(&s.scores, x.Rows, c.Experts)
	b.router.Forward(s.scores, s.in)
	if s.visits == nil {
		s.visits = make([][]visit, c.Experts)
	}
	for e := range s.visits {
		s.visits[e] = s.visits[e][:0]
	}
	for i := range x.Rows {
		s.choose(i, c.ExpertsPerToken, c.NormTopK)
	}
}

// choose takes the k experts of the largest scores, of equal ones the first, and
// shares the token out among them. It spends the scores of the row.
func (s *mixture) choose(row, k int, norm bool) {
	scores := s.scores.Row(row)
	top := float32(math.Inf(-1))
	for _, v := range scores {
		top = max(top, v)
	}
	total := 0.0
	for _, v := range scores {
		total += math.Exp(float64(v - top))
	}
	if norm {
		total = 0
	}
	var chosen [maxChosen]int
	for i := range k {
		best := 0
		for e, v := range scores {
			if v > scores[best] {
				best = e
			}
		}
		chosen[i] = best
		if norm {
			total += math.Exp(float64(scores[best] - top))
		}
		s.visits[best] = append(s.visits[best], visit{row, float32(math.Exp(float64(scores[best] - top)))})
		scores[best] = float32(math.Inf(-1))
	}
	for _, e := range chosen[:k] {
		last := &s.visits[e][len(s.visits[e])-1]
		last.share = float32(float64(last.share) / total)
	}
}
