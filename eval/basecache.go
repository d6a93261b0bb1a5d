package eval

// openRecords looks for what the cache has of the base and starts records of
// what it has not.
func (e *evaluation) openRecords(windows []windowOf) {
	base, c := e.models[0], e.o.Cache
	for i, t := range e.texts {
		var cuts [][]int32
		for _, w := range windows {
			if w.text == i {
				cuts = append(cuts, w.tokens)
			}
		}
		key, shape := recordKey(base, cuts), recordShape{t.windows, e.window, base.Model.Config.Hidden}
		if t.record = c.open(key, shape, !e.o.WithoutKL); t.record == nil {
			t.draft = c.create(key, shape)
			continue
		}
		if e.o.WithoutKL {
			t.traces[0].nll, t.traces[0].top = t.record.nll, t.record.top
		}
	}
}

// saveRecords keeps what the base gave.
func (e *evaluation) saveRecords() {
	kept := false
	for _, t := range e.texts {
		if t.draft == nil {
			continue
		}
		base := &t.traces[0]
		if err := t.draft.commit(base.nll, base.top, base.spent.Seconds()); err != nil {
			e.o.Cache.warn(err)
		}
		t.draft, kept = nil, true
	}
	if kept {
		e.o.Cache.evict(0) // another run may have added to it
	}
}

// close gives up what an error left open.
func (e *evaluation) close() {
	for _, t := range e.texts {
		if t.record != nil {
			t.record.close()
		}
		if t.draft != nil {
			t.draft.abort()
		}
	}
}
