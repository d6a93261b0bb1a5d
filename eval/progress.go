package eval

import "quantize/model"

// progress is how much of the work is done, in multiply-adds of the matrix
// products of a row: blocks and heads take their time in that ratio.
type progress struct {
	done, total float64
	told        int64 // thousandths
	window      int
	tell        func(done, total int64)
	cost        map[*model.Model]rowCost
}

// rowCost is the work of one row in a decoder block and in the head.
type rowCost struct{ block, head float64 }

func costOf(m *model.Model) rowCost {
	linears := int64(0)
	for _, t := range model.Tensors(m.Config) {
		if t.Kind == model.KindLinear {
			linears += t.Elements()
		}
	}
	return rowCost{float64(linears) / float64(m.Config.Layers), float64(m.Config.Vocab) * float64(m.Config.Hidden)}
}

// plan sums up the work: a base with a record has no blocks to run.
func (e *evaluation) plan() {
	e.work = progress{window: e.window, tell: e.o.OnProgress, cost: map[*model.Model]rowCost{}}
	for i, m := range e.models {
		c := costOf(m.Model)
		e.work.cost[m.Model] = c
		for _, t := range e.texts {
			if i > 0 || t.record == nil {
				e.work.total += float64(t.windows*e.window*m.Model.Config.Layers) * c.block
			}
			if !e.idle(i, t) {
				e.work.total += float64(t.windows*(e.window-1)) * c.head
			}
		}
	}
}

// block says that a block of m has run over some windows.
func (p *progress) block(m *model.Model, windows int) {
	p.add(float64(windows*p.window) * p.cost[m].block)
}

// head says that the head of m has scored some rows.
func (p *progress) head(m *model.Model, rows int) { p.add(float64(rows) * p.cost[m].head) }

func (p *progress) add(work float64) {
	p.done += work
	// The sum is rounded: half a thousandth makes the last one 1000.
	if at := min(int64(1000*p.done/p.total+0.5), 1000); at > p.told && p.tell != nil {
		p.told = at
		p.tell(at, 1000)
	}
}
