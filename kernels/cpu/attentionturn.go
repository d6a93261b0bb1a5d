package cpu

import "math"

// turn multiplies the tokens of t.rows, channels elements each (a power of two), by the
// Hadamard matrix and divides them by 2^down: a block of 2·half channels at a time, in the
// order of sums that ref.RoundAttention says.
func (t *attentionTask) turn(tokens, channels, down int) {
	factor := float32(math.Ldexp(1, -down))
	for n := range tokens {
		row := t.rows[n*channels : (n+1)*channels]
		for half := 1; half < channels; half *= 2 {
			for from := 0; from < channels; from += 2 * half {
				low, high := row[from:from+half], row[from+half:from+2*half]
				for c, l := range low {
					h := high[c]
					low[c], high[c] = l+h, l-h
				}
			}
		}
		for c := range row {
			row[c] *= factor
		}
	}
}
