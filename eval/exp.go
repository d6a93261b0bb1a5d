package eval

import "math"

// exp(x) = 2^n · e^r with n = round(x·log2 e), r = x - n·ln 2, |r| <= ln2/2,
// and e^r = 1 + r + r²·(c2 + .. + c8 r⁶), the minimax polynomial, whose
// relative error is 1.2e-12. The rounding of n·ln 2 adds at most 8e-14. Its terms
// are summed in pairs (Estrin), which wait for each other less than in a chain.
// No step is fused, so that the assembly, which is this four times over, gives
// the same bits; gen/rows.go has the same constants.
const (
	expShift = 0x1.8p52 + 1023 // the sum with it has round(t) + 1023, the exponent field of 2^n, in its low bits
	expFloor = -700            // what is below counts as that, 1e-304: no sum of a softmax, which is at least 1, sees it

	exp2 = 0x1.000000005ddc6p-1
	exp3 = 0x1.5555557dcd418p-3
	exp4 = 0x1.5555541e7ddd1p-5
	exp5 = 0x1.1110a26a4d33fp-7
	exp6 = 0x1.6c18d2fe54c30p-10
	exp7 = 0x1.a1854dfa1fc6fp-13
	exp8 = 0x1.9e89470a3db15p-16
)

// expNeg returns e^x for -700 <= x <= 0 with a relative error below 1e-11, and
// e^-700 below; NaN for NaN. A conversion keeps its product from being fused.
func expNeg(x float64) float64 {
	if x < expFloor {
		x = expFloor
	}
	shifted := float64(x*math.Log2E) + expShift
	r := x - float64((shifted-expShift)*math.Ln2)
	r2 := r * r
	r4 := r2 * r2
	low := exp2 + float64(exp3*r) + float64((exp4+float64(exp5*r))*r2)
	high := exp6 + float64(exp7*r) + float64(exp8*r2)
	p := 1 + r + float64((low+float64(high*r4))*r2)
	return p * math.Float64frombits(math.Float64bits(shifted)<<52)
}

// lanes are the partial sums of a row: element i goes to lane i mod 8, in the
// order of i, whatever the processor.
type lanes [8]float64

func (s *lanes) total() float64 {
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

// addExp adds e^(x_i - shift) to the lanes; x starts at lane 0.
func (s *lanes) addExp(x []float32, shift float64) {
	for i, a := range x {
		s[i%len(s)] += expNeg(float64(a) - shift)
	}
}

// addDivergence adds e^min(x_i - shift, 0) · (x_i - y_i).
func (s *lanes) addDivergence(x, y []float32, shift float64) {
	for i, a := range x {
		s[i%len(s)] += float64(expNeg(min(float64(a)-shift, 0)) * (float64(a) - float64(y[i])))
	}
}

// largest returns the largest element that is no NaN, minus infinity if there is none.
func largest(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, a := range x {
		if a > top {
			top = a
		}
	}
	return top
}
