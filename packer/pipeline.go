package packer

import (
	"context"
	"fmt"
	"sync"

	"quantize/tensor"
)

// run streams all tensors. Four goroutines work side by side,
//
//	read + hash + decode  ->  round (itself parallel)  ->  serialize + write
//	copy the tensors that stay
//
// and hand over without buffers, so that at most three linears are in memory.
// The first error stops all of them.
func (e *exporter) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	e.sources = map[string]string{}

	loaded := make(chan tensor.Matrix)
	rounded := make(chan []stored)
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
	stage(func() error { return e.write(rounded) })
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

// load reads the linears in the order of computation, and writes what else the
// blocks have when it is transformed: the folded weights serve one goroutine.
func (e *exporter) load(ctx context.Context, out chan<- tensor.Matrix, spare <-chan []float32) error {
	var raw []byte
	folded := e.foldedByLayer()
	for _, l := range e.plan.linears {
		if err := e.writeFolded(folded.before(l.Name)); err != nil {
			return err
		}
		name := l.Name + weightSuffix
		info, err := e.reader.Info(name)
		if err != nil {
			return err
		}
		if raw, err = e.reader.Raw(name, raw); err != nil {
			return err
		}
		e.sources[name] = sha256Hex(raw)
		w, err := e.weight(l, raw, info.DType, spare)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		select {
		case out <- w:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return e.writeFolded(folded.rest())
}

func (e *exporter) roundAll(ctx context.Context, in <-chan tensor.Matrix, out chan<- []stored, spare chan<- []float32) error {
	var done, total int64
	for _, l := range e.plan.linears {
		total += int64(l.N) * int64(l.K)
	}
	for _, l := range e.plan.linears {
		w, ok := <-in
		if !ok {
			return nil // the loader has told why
		}
		weight, layer, err := e.round(ctx, l, w)
		if err != nil {
			return err
		}
		select {
		case spare <- w.Data:
		default:
		}
		e.layers = append(e.layers, layer)
		done += int64(l.N) * int64(l.K)
		if e.options.Progress != nil {
			e.options.Progress(done, total, &e.layers[len(e.layers)-1])
		}
		select {
		case out <- serialize(l.Name, weight):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (e *exporter) write(in <-chan []stored) error {
	for set := range in {
		for _, t := range set {
			if err := e.writer.Add(t.name, t.data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *exporter) copy(ctx context.Context) error {
	for _, name := range e.plan.copies {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := e.writer.Copy(e.reader, name); err != nil {
			return err
		}
	}
	return e.writeEnds()
}
