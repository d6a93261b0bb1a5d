package calibrate

import "math/rand/v2"

// Windows cuts tokens into non-overlapping windows and drops the remainder.
// With n = 0, or n not below their number, it returns all of them in order; else
// a sample of n without replacement, the same for the same seed, in order
// (Knuth, The Art of Computer Programming 2, 3.4.2, Algorithm S). The windows
// are views of tokens. It returns none if window or n is negative, or window 0.
func Windows(tokens []int32, window, n int, seed uint64) [][]int32 {
	if window < 1 || n < 0 {
		return nil
	}
	total := len(tokens) / window
	if n == 0 || n > total {
		n = total
	}
	windows := make([][]int32, 0, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range total {
		if left := n - len(windows); left < total-i && r.Uint64N(uint64(total-i)) >= uint64(left) {
			continue
		}
		windows = append(windows, tokens[i*window:(i+1)*window:(i+1)*window])
	}
	return windows
}
