package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (g *generator) encoders() {
	g.encodeBF16()
	g.encodeF16()
	order := g.order()
	g.encodeFP8(fp8{"E4M3", 3, 7, 448}, order)
	g.encodeFP8(fp8{"E5M2", 2, 15, 57344}, order)
}

// encodeBF16 adds just under half a unit, and one more when the last bit is
// odd; a NaN keeps its upper half and is made quiet.
func (g *generator) encodeBF16() {
	var one, half, quiet reg.VecVirtual
	constants := func() { one, half, quiet = g.every32(1), g.every32(0x7FFF), g.every32(0x40) }
	encode := func(from operand.Op) reg.VecVirtual {
		x, upper, r, nan := g.YMM(), g.YMM(), g.YMM(), g.YMM()
		g.VMOVDQU(from, x)
		g.VPSRLD(operand.U8(16), x, upper)
		g.VCMPPS(unordered, x, x, nan)
		g.VPAND(one, upper, r)
		g.VPADDD(half, x, x)
		g.VPADDD(x, r, r)
		g.VPSRLD(operand.U8(16), r, r)
		g.VPOR(quiet, upper, upper)
		g.VPBLENDVB(nan, upper, r, r)
		return r
	}
	g.loop("encodeBF16", "rounds n values to BF16.", "byte", "float32", 2, 4, constants,
		func(dst, src reg.Register, store store) {
			for i := range block / 16 {
				low, high := encode(at(src, 64*i)), encode(at(src, 64*i+32))
				g.VPACKUSDW(high, low, low)
				g.VPERMQ(operand.U8(0b11_01_10_00), low, low) // the pack goes by halves
				store(low, at(dst, 32*i))
			}
		})
}

// encodeF16: the conversion of the processor does what the codec does, NaN included.
func (g *generator) encodeF16() {
	const toNearestEven = 0
	g.loop("encodeF16", "rounds n values to binary16.", "byte", "float32", 2, 4, func() {},
		func(dst, src reg.Register, store store) {
			for i := range block / 16 {
				x, low, high := g.YMM(), g.YMM(), g.XMM()
				g.VMOVUPS(at(src, 64*i), x)
				g.VCVTPS2PH(operand.U8(toNearestEven), x, low.AsX())
				y := g.YMM()
				g.VMOVUPS(at(src, 64*i+32), y)
				g.VCVTPS2PH(operand.U8(toNearestEven), y, high)
				g.VINSERTI128(operand.U8(1), high, low, low)
				store(low, at(dst, 32*i))
			}
		})
}

// fp8 is a format: bits of its mantissa, bias, largest finite value.
type fp8 struct {
	name           string
	mantissa, bias int
	most           float32
}

// encodeFP8 rounds as the codec does (see the package comment of tensor): the
// sum with a power of two has the significand in its low bits. The exponent
// counts from that of the smallest normal; what it counts too much is made up,
// modulo 128, by an even number in the last places of the power of two, which
// leaves ties as they are. A NaN comes out as the largest finite code, until
// its other bits are set.
func (g *generator) encodeFP8(f fp8, order operand.Mem) {
	least := uint32(127 + 1 - f.bias) // exponent field of the smallest normal
	drop := uint32(23 - f.mantissa)   // bits of a mantissa that go
	surplus := least << f.mantissa & 0x7F
	var magnitude, exponent, most, emin, shift, code, sign reg.VecVirtual
	constants := func() {
		magnitude, exponent = g.every32(0x7FFFFFFF), g.every32(0x7F800000)
		most, emin, shift = g.every32(math.Float32bits(f.most)), g.every32(least<<23), g.every32(drop<<23|(0x80-surplus))
		code, sign = g.every32(0x7F), g.every32(0x80808080)
	}
	encode := func(from operand.Op) (x, a reg.VecVirtual) {
		x, a = g.YMM(), g.YMM()
		nan, e, power := g.YMM(), g.YMM(), g.YMM()
		g.VMOVUPS(from, x)
		g.VCMPPS(unordered, x, x, nan)
		g.VPAND(magnitude, x, a)
		g.VPMINUD(most, a, a)
		g.VPAND(exponent, a, e)
		g.VPMAXUD(emin, e, e)
		g.VPADDD(shift, e, power)
		g.VADDPS(power, a, a)
		g.VPSRLD(operand.U8(drop), e, e)
		g.VPADDD(e, a, a)
		g.VPOR(nan, a, a)
		g.VPAND(code, a, a)
		return x, a
	}
	g.loop("encode"+f.name, "rounds n values to "+f.name+".", "byte", "float32", 1, 4, constants,
		func(dst, src reg.Register, store store) {
			var x, a [2]reg.VecVirtual
			for i := range 2 {
				x0, a0 := encode(at(src, 64*i))
				x1, a1 := encode(at(src, 64*i+32))
				g.VPACKUSDW(a1, a0, a0)
				g.VPACKSSDW(x1, x0, x0) // saturates, so that the sign stays on top
				x[i], a[i] = x0, a0
			}
			g.VPACKUSWB(a[1], a[0], a[0])
			g.VPACKSSWB(x[1], x[0], x[0])
			g.VPAND(sign, x[0], x[0])
			g.VPOR(x[0], a[0], a[0])
			places := g.YMM()
			g.VMOVDQU(order, places)
			g.VPERMD(a[0], places, a[0])
			store(a[0], at(dst, 0))
		})
}

// order is the permutation that undoes what packing by halves did to four
// vectors: the first halves of all came before the second ones.
func (g *generator) order() operand.Mem {
	m := g.StaticGlobal("order")
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i, from := range [8]uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		g.AddDatum(4*i, operand.U32(from))
	}
	return m
}
