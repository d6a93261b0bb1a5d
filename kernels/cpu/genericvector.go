package cpu

import (
	"math"
	"unsafe"
)

// exp is the exponential of the assembly in plain Go:
//
//	n = round(x·log2 e), r = x - n·ln 2, exp(x) = 2^n · (1 + r + r²·q(r))
//
// with ln 2 in two parts, the first of nine bits so that n times it is exact
// (Cody and Waite, "Software Manual for the Elementary Functions", 1980, ch. 6),
// and q of degree 4, the minimax polynomial for |r| <= ln2/2. The largest error
// found over [-87.3, 88] is 0.97 ULP, with fused multiply-adds and without
// (TestExp). Arguments outside are clamped to that range by the callers.
func exp(x float32) float32 {
	const (
		magic    = 12582912 + 127 // 1.5·2^23: the sum has round(x)+127 in its low bits
		ln2High  = 355.0 / 512
		ln2Low   = math.Ln2 - ln2High
		q0       = 0x1.fffffcp-2
		q1       = 0x1.555492p-3
		q2       = 0x1.5558f2p-5
		q3       = 0x1.1239e2p-7
		q4       = 0x1.6a2434p-10
		exponent = 23
	)
	shifted := float32(x*math.Log2E) + magic
	n := shifted - magic
	r := x - float32(n*ln2High)
	r -= float32(n * ln2Low)
	r2 := r * r
	q := (q0 + r*q1) + r2*((q2+r*q3)+r2*q4)
	return (1 + (r + r2*q)) * math.Float32frombits(math.Float32bits(shifted)<<exponent)
}

// The range of exp: below, 2^n would be subnormal; above, infinite.
const (
	expLow  = -87.3
	expHigh = 88
)

func softmax(x *float32, n int, top float32) (newTop, sum float32) {
	row := unsafe.Slice(x, n)
	for _, v := range row {
		if v > top {
			top = v
		}
	}
	for j, v := range row {
		t := v - top
		if t < expLow {
			t = expLow
		}
		row[j] = exp(t)
		sum += row[j]
	}
	return top, sum
}

func siluMul(dst, gate, up *float32, n int) {
	out, g, u := unsafe.Slice(dst, n), unsafe.Slice(gate, n), unsafe.Slice(up, n)
	for j, v := range g {
		t := -v
		if t < expLow {
			t = expLow
		}
		if t > expHigh {
			t = expHigh
		}
		out[j] = v / (1 + exp(t)) * u[j]
	}
}

func normMul(dst, x, weight *float32, n int, scale float32) {
	out, w := unsafe.Slice(dst, n), unsafe.Slice(weight, n)
	for j, v := range unsafe.Slice(x, n) {
		out[j] = w[j] * (v * scale)
	}
}

func scale(dst, x *float32, n int, scale float32) {
	out := unsafe.Slice(dst, n)
	for j, v := range unsafe.Slice(x, n) {
		out[j] = v * scale
	}
}

func sumSquares(x *float32, n int) float32 {
	var sum float32
	for _, v := range unsafe.Slice(x, n) {
		sum += v * v
	}
	return sum
}
