package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tokenFuncs writes the two passes over one token's activations.
func (v *vectors) tokenFuncs() {
	v.maxAbs()
	v.roundE4M3()
}

// every returns a register with bits in every lane.
func (v *vectors) every(bits uint32) reg.VecVirtual {
	g, x, r := v.GP32(), v.XMM(), v.vector(v.Context)
	v.MOVL(operand.U32(bits), g)
	v.VMOVD(g, x)
	v.VPBROADCASTD(x, r)
	return r
}

func (v *vectors) maxAbs() {
	v.function("maxAbs", "func(x *float32, n int) float32",
		"returns the largest magnitude of n elements, n a multiple of the vector, NaN above all: magnitudes are ordered as their bits.")
	x, n := v.Load(v.Param("x"), v.GP64()), v.Load(v.Param("n"), v.GP64())
	top := v.vector(v.Context)
	v.xor(top, top, top)
	v.each("maxAbs", n, func(offset reg.Register) {
		t := v.vector(v.Context)
		v.VMOVUPS(indexed(x, offset), t)
		v.VPSLLD(operand.U8(1), t, t) // no sign
		v.VPMAXUD(t, top, top)
	})
	first := v.reduce(top, v.VPMAXUD)
	v.VPSRLD(operand.U8(1), first, first)
	v.Store(first, v.ReturnIndex(0))
	v.VZEROUPPER()
	v.RET()
}

// roundE4M3 rounds as tensor.RoundE4M3 does: adding and subtracting 2^20 times
// the power of two below |t|, at least 2^-6, leaves three bits behind it.
func (v *vectors) roundE4M3() {
	v.function("roundE4M3", "func(dst, x *float32, n int, a, by float32)",
		"writes by·e4m3(x/a), saturating, for n elements, n a multiple of the vector.")
	dst, x := v.Load(v.Param("dst"), v.GP64()), v.Load(v.Param("x"), v.GP64())
	n := v.Load(v.Param("n"), v.GP64())
	a, by := v.broadcast("a"), v.broadcast("by")
	largest, smallest, shift := v.every(math.Float32bits(448)), v.every(127-6), v.every(23-3)
	v.each("round", n, func(offset reg.Register) {
		sign, t, magic := v.vector(v.Context), v.vector(v.Context), v.vector(v.Context)
		v.VMOVUPS(indexed(x, offset), sign)
		v.VDIVPS(a, sign, sign)
		v.VPSLLD(operand.U8(1), sign, t)
		v.VPSRLD(operand.U8(1), t, t)
		v.xor(t, sign, sign)
		v.VMINPS(t, largest, t) // NaN stays: the second source wins
		v.VPSRLD(operand.U8(23), t, magic)
		v.VPMAXUD(smallest, magic, magic)
		v.VPADDD(shift, magic, magic)
		v.VPSLLD(operand.U8(23), magic, magic)
		v.VADDPS(magic, t, t)
		v.VSUBPS(magic, t, t)
		v.xor(sign, t, t)
		v.VMULPS(by, t, t)
		v.VMOVUPS(t, indexed(dst, offset))
	})
	v.VZEROUPPER()
	v.RET()
}
