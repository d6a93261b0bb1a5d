package packer

import (
	"context"
	"fmt"
	"sync"

	"quantize/model"
	"quantize/tensor"
)

// run streams all tensors. Four goroutines work side by side,
//
//	read + hash + decode  ->  round (itself parallel)  ->  serialize + write
//	copy the tensors that stay
//
// and hand over without buffers, so that at most three linears are in memory, and
// with a journal the rounded ones of a block. The first error stops all of them.
func (e *exporter) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	e.sources = map[string]string{}

	loaded := make(chan task)
	rounded := make(chan batch)
	spare := make(chan []float32, 3) // memory of matrices that are done with

	var wg sync.WaitGroup
	stage := func(work func() error) {
		wg.Go(func() {
			if err := work(); err != nil {
				cancel(err)
			}
		})
	}
	stage(func() error {
		defer close(loaded)
		return e.load(ctx, loaded, spare)
	})
	stage(func() error {
		defer close(rounded)
		return e.roundAll(ctx, loaded, rounded, spare)
	})
	stage(func() error { return e.write(ctx, rounded) })
	stage(func() error { return e.copy(ctx) })
	wg.Wait()
	return context.Cause(ctx)
}

// weight is the linear to quantize: as stored, or transformed.
func (e *exporter) weight(l LinearShape, raw []byte, d tensor.DType, spare <-chan []float32) (tensor.Matrix, error) {
	if f := e.options.Folded; f != nil {
		return f.Matrix(l.Name + weightSuffix)
	}
	var data []float32
	select {
	case data = <-spare:
	default:
	}
	if cap(data) < l.N*l.K {
		data = make([]float32, l.N*l.K)
	}
	w := tensor.MatrixOf(l.N, l.K, data[:l.N*l.K])
	return w, tensor.Decode(w.Data, raw, d)
}

// task is one of three things that load hands on.
type task struct {
	linear   LinearShape // to round
	weight   tensor.Matrix
	last     bool    // of its block
	as       *stored // to be written as it is
	finished *block  // by an earlier run, and written
	layers   []Layer
}

// batch is what the tensors of a task, or of none, are written as.
type batch struct {
	tensors []stored
	block   int     // that is complete with it; -1: none
	layers  []Layer // of that block
}

// load reads the linears in the order of computation, and what else the blocks
// have when it is transformed: the folded weights serve one goroutine.
func (e *exporter) load(ctx context.Context, out chan<- task, spare <-chan []float32) error {
	send := func(t task) error {
		select {
		case out <- t:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	asIs := func(list []model.Expected) error {
		for _, t := range list {
			s, err := e.encodeFolded(t)
			if err == nil {
				err = send(task{as: &s})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	folded := e.foldedByLayer()
	var raw []byte
	for _, b := range e.blocks() {
		others := folded.before(b.linears[0].Name)
		layers, done, err := e.restore(b)
		if err != nil {
			return err
		}
		if done {
			if err := send(task{finished: &b, layers: layers}); err != nil {
				return err
			}
			continue
		}
		if err := asIs(others); err != nil {
			return err
		}
		for i, l := range b.linears {
			t := task{linear: l, last: i == len(b.linears)-1}
			if t.weight, raw, err = e.read(l, raw, spare); err != nil {
				return err
			}
			if err := send(t); err != nil {
				return err
			}
		}
	}
	return asIs(folded.rest())
}

// read gives the weight of a linear, and notes the hash of the source.
func (e *exporter) read(l LinearShape, raw []byte, spare <-chan []float32) (tensor.Matrix, []byte, error) {
	name := l.Name + weightSuffix
	info, err := e.reader.Info(name)
	if err != nil {
		return tensor.Matrix{}, raw, err
	}
	if raw, err = e.reader.Raw(name, raw); err != nil {
		return tensor.Matrix{}, raw, err
	}
	e.sources[name] = sha256Hex(raw)
	if err := e.checkSource(name, e.sources[name]); err != nil {
		return tensor.Matrix{}, raw, err
	}
	w, err := e.weight(l, raw, info.DType, spare)
	if err != nil {
		return w, raw, fmt.Errorf("%s: %w", name, err)
	}
	return w, raw, nil
}

// roundAll rounds what is loaded. It goes on to the next block when the journal
// has the last one, so that a run that is killed loses one block at most.
func (e *exporter) roundAll(ctx context.Context, in <-chan task, out chan<- batch, spare chan<- []float32) error {
	var done, total int64
	for _, l := range e.plan.linears {
		total += int64(l.N) * int64(l.K)
	}
	add := func(layer Layer) {
		e.layers = append(e.layers, layer)
		done += int64(layer.N) * int64(layer.K)
		if e.options.Progress != nil {
			e.options.Progress(done, total, &e.layers[len(e.layers)-1])
		}
	}
	first := 0 // layer of the block at hand
	for t := range in {
		b := batch{block: -1}
		switch {
		case t.as != nil:
			b.tensors = []stored{*t.as}
		case t.finished != nil:
			e.restored++
			for _, layer := range t.layers {
				add(layer)
			}
			first = len(e.layers)
			if e.options.Restored != nil {
				e.options.Restored(t.finished.layer, func() (map[string]Weight, error) { return e.weights(*t.finished) })
			}
			continue
		default:
			weight, layer, err := e.round(ctx, t.linear, t.weight)
			if err != nil {
				return err
			}
			select {
			case spare <- t.weight.Data:
			default:
			}
			add(layer)
			b.tensors = serialize(t.linear.Name, weight)
			if t.last {
				b.block, b.layers = e.options.Model.LayerOf(t.linear.Name), e.layers[first:]
				first = len(e.layers)
			}
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b.block < 0 || e.options.Journal == nil {
			continue
		}
		select {
		case <-e.kept:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil // where the loader has failed, it has told why
}

func (e *exporter) write(ctx context.Context, in <-chan batch) error {
	var block []stored // all of it so far
	for b := range in {
		for _, t := range b.tensors {
			if err := e.writer.Add(t.name, t.data); err != nil {
				return err
			}
		}
		if e.options.Journal == nil {
			continue
		}
		block = append(block, b.tensors...)
		if b.block < 0 {
			continue
		}
		if err := e.keep(b.block, b.layers, block); err != nil {
			return err
		}
		block = nil
		select {
		case e.kept <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (e *exporter) copy(ctx context.Context) error {
	for _, name := range e.plan.copies {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		copyTensor := e.writer.Copy
		if e.plan.known[name] {
			copyTensor = e.writer.CopyFinite
		}
		if err := copyTensor(e.reader, name); err != nil {
			return err
		}
	}
	if err := e.writeCache(); err != nil {
		return err
	}
	return e.writeEnds()
}
