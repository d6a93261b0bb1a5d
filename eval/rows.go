package eval

import (
	"math"
	"runtime"
	"slices"
	"sync"

	"quantize/tensor"
)

// rowStats is what one row of logits says by itself.
type rowStats struct {
	logSum float64 // ln sum_v e^x_v
	top    int     // argmax, the lowest of equal ones
}

// reduceRow takes the statistics of one row of logits. A row with NaN or
// infinity has a logSum that is not finite; minus infinity beside finite
// logits has the probability 0.
func reduceRow(x []float32, vectors bool) rowStats {
	peak, top := argmax(x, vectors)
	var sums lanes
	shift := float64(peak)
	if vectors {
		sums.addExpVectors(x, shift)
	} else {
		sums.addExp(x, shift)
	}
	return rowStats{logSum: shift + math.Log(sums.total()), top: top}
}

// argmax returns the largest element that is no NaN and its lowest place. It
// looks for the place in one part of the row only.
func argmax(x []float32, vectors bool) (peak float32, top int) {
	const part = 1024
	peak = float32(math.Inf(-1))
	start := 0
	for from := 0; from < len(x); from += part {
		within := x[from:min(from+part, len(x))]
		var highest float32
		if vectors {
			highest = largestVectors(within)
		} else {
			highest = largest(within)
		}
		if highest > peak {
			peak, start = highest, from
		}
	}
	return peak, start + max(0, slices.Index(x[start:], peak))
}

// klRow returns KL(p || q) in nats of two rows of logits:
//
//	sum_v p_v (ln p_v - ln q_v) = sum_v p_v (x_v - y_v) - logSum_p + logSum_q
//
// where x are the logits of p and y those of q. Rounding can leave it a hair
// below 0; it is clamped there.
func klRow(x, y []float32, p, q rowStats, vectors bool) float64 {
	var sums lanes
	if vectors {
		sums.addDivergenceVectors(x, y, p.logSum)
	} else {
		sums.addDivergence(x, y, p.logSum)
	}
	return max(sums.total()-p.logSum+q.logSum, 0)
}

// score reduces every row of logits (M, Vocab): stats[m] is the row's, nll[m]
// the negative log-likelihood of next[m]. Rows are shared among GOMAXPROCS
// goroutines.
func score(logits tensor.Matrix, next []int32, stats []rowStats, nll []float64) {
	vectors := hasVectors()
	eachRow(logits.Rows, func(m int) {
		x := logits.Row(m)
		stats[m] = reduceRow(x, vectors)
		nll[m] = stats[m].logSum - float64(x[next[m]])
	})
}

// divergence writes KL(base || candidate) of every row into kl.
func divergence(base, candidate tensor.Matrix, p, q []rowStats, kl []float64) {
	vectors := hasVectors()
	eachRow(base.Rows, func(m int) {
		kl[m] = klRow(base.Row(m), candidate.Row(m), p[m], q[m], vectors)
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
