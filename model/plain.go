package model

import (
	"math"
	"runtime"
	"sync"

	"quantize/tensor"
)

// plain is [Elementwise] in plain Go with sums in float64.
type plain struct{}

func (plain) RMSNorm(dst, x tensor.Matrix, weight []float32, eps float32) {
	inParallel(x.Rows, x.Cols, func(from, to int) {
		for i := from; i < to; i++ {
			in, out := x.Row(i), dst.Row(i)
			var sum float64
			for _, v := range in {
				sum += float64(v) * float64(v)
			}
			scale := float32(1 / math.Sqrt(sum/float64(len(in))+float64(eps)))
			for j, v := range in {
				out[j] = weight[j] * (v * scale)
			}
		}
	})
}

func (plain) SiLUMul(dst, gate, up tensor.Matrix) {
	inParallel(gate.Rows, 8*gate.Cols, func(from, to int) {
		for i := from; i < to; i++ {
			g, u, out := gate.Row(i), up.Row(i), dst.Row(i)
			for j, v := range g {
				out[j] = float32(float64(v)/(1+math.Exp(-float64(v)))) * u[j]
			}
		}
	})
}

// add writes x += y.
func add(x, y tensor.Matrix) {
	inParallel(x.Rows, x.Cols, func(from, to int) {
		for i := from; i < to; i++ {
			a, b := x.Row(i), y.Row(i)
			for j, v := range b {
				a[j] += v
			}
		}
	})
}

// inParallel calls work on disjoint row ranges that cover [0, rows), on all
// processors once there is enough work to pay for it. cost is the number of
// elementary operations of one row. Rows are independent, so the result does
// not depend on the number of workers.
func inParallel(rows, cost int, work func(from, to int)) {
	const worthwhile = 1 << 15 // operations for one worker
	workers := min(runtime.GOMAXPROCS(0), rows*cost/worthwhile, rows)
	if workers < 2 {
		work(0, rows)
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { work(rows*w/workers, rows*(w+1)/workers) })
	}
	wg.Wait()
}
