package eval

import (
	"math"
	"runtime"
	"sync"

	"quantize/tensor"
)

// rowStats is what one row of logits says by itself.
type rowStats struct {
	logSum float64 // ln sum_v e^x_v
	top    int     // argmax, the lowest of equal ones
}

// reduceRow takes the statistics of one row of logits. A row with NaN or
// infinity has a logSum that is not finite.
func reduceRow(x []float32) rowStats {
	top := 0
	peak := x[0]
	for v, a := range x {
		if a > peak {
			top, peak = v, a
		}
	}
	sum, shift := 0.0, float64(peak)
	for _, a := range x {
		sum += expNeg(float64(a) - shift)
	}
	return rowStats{logSum: shift + math.Log(sum), top: top}
}

// klRow returns KL(p || q) in nats of two rows of logits:
//
//	sum_v p_v (ln p_v - ln q_v) = sum_v p_v (x_v - y_v) - logSum_p + logSum_q
//
// where x are the logits of p and y those of q. Rounding can leave it a hair
// below 0; it is clamped there.
func klRow(x, y []float32, p, q rowStats) float64 {
	sum := 0.0
	for v, a := range x {
		sum += expNeg(min(float64(a)-p.logSum, 0)) * (float64(a) - float64(y[v]))
	}
	return max(sum-p.logSum+q.logSum, 0)
}

// score reduces every row of logits (M, Vocab): stats[m] is the row's, nll[m]
// the negative log-likelihood of next[m]. Rows are shared among GOMAXPROCS
// goroutines.
func score(logits tensor.Matrix, next []int32, stats []rowStats, nll []float64) {
	eachRow(logits.Rows, func(m int) {
		x := logits.Row(m)
		stats[m] = reduceRow(x)
		nll[m] = stats[m].logSum - float64(x[next[m]])
	})
}

// divergence writes KL(base || candidate) of every row into kl.
func divergence(base, candidate tensor.Matrix, p, q []rowStats, kl []float64) {
	eachRow(base.Rows, func(m int) {
		kl[m] = klRow(base.Row(m), candidate.Row(m), p[m], q[m])
	})
}

// eachRow calls f for 0..rows-1, strided over the workers so that no one waits
// long for another.
func eachRow(rows int, f func(m int)) {
	workers := min(runtime.GOMAXPROCS(0), rows)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for m := w; m < rows; m += workers {
				f(m)
			}
		})
	}
	wg.Wait()
}
