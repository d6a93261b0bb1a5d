package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// lanes is the number of partial sums: two vectors of float64.
const lanes = 8

// generator emits AVX2 without fused multiply-adds, so that every step rounds
// as it does in plain Go.
type generator struct {
	*build.Context
	table operand.Mem
	base  reg.Register // of the table
}

// The constants, each once; they are repeated over a vector when loaded.
const (
	cFloor = iota
	cLog2E
	cShift // 1.5·2^52 + 1023: the sum has round(t) + 1023 in its low bits
	cLn2
	cOne
	c2 // exp(r) = 1 + r + r²·(c2 + .. + c8 r⁶)
	c3
	c4
	c5
	c6
	c7
	c8
	constants
)

var constant = [constants]float64{
	cFloor: -700,
	cLog2E: math.Log2E,
	cShift: 0x1.8p52 + 1023,
	cLn2:   math.Ln2,
	cOne:   1,
	c2:     0x1.000000005ddc6p-1,
	c3:     0x1.5555557dcd418p-3,
	c4:     0x1.5555541e7ddd1p-5,
	c5:     0x1.1110a26a4d33fp-7,
	c6:     0x1.6c18d2fe54c30p-10,
	c7:     0x1.a1854dfa1fc6fp-13,
	c8:     0x1.9e89470a3db15p-16,
}

func (g *generator) rows() {
	g.table = g.StaticGlobal("exponential")
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i, c := range constant {
		for l := range 4 {
			g.AddDatum(8*(4*i+l), operand.U64(math.Float64bits(c)))
		}
	}
	g.addExp()
	g.addDivergence()
	g.largest()
}

func (g *generator) function(name, signature, doc string) {
	g.Function(name + "AVX2")
	g.Attributes(build.NOSPLIT)
	g.SignatureExpr(signature)
	g.Doc(name + "AVX2 " + doc)
	g.Pragma("noescape")
}

func (g *generator) at(i int) operand.Mem { return operand.Mem{Base: g.base, Disp: 32 * i} }

func (g *generator) load(i int) reg.VecVirtual {
	r := g.YMM()
	g.VMOVUPD(g.at(i), r)
	return r
}

func (g *generator) broadcast(param string) reg.VecVirtual {
	r := g.YMM()
	a, err := g.Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	g.VBROADCASTSD(a.Addr, r)
	return r
}

// each calls body for every eight elements at index, to be scaled by four.
func (g *generator) each(n reg.Register, body func(index reg.Register)) {
	index := g.GP64()
	g.XORQ(index, index)
	g.JMP(operand.LabelRef("test"))
	g.Label("loop")
	body(index)
	g.ADDQ(operand.U8(lanes), index)
	g.Label("test")
	g.CMPQ(index, n)
	g.JLT(operand.LabelRef("loop"))
}

// exp returns exp(x) in a new register and spoils x. A NaN stays one: the sum
// that scales it has finite bits or is a NaN as well.
func (g *generator) exp(x, floor, shift reg.VecVirtual) reg.VecVirtual {
	t, n := g.YMM(), g.YMM()
	g.VMAXPD(x, floor, x) // NaN stays: the second source wins
	g.VMULPD(g.at(cLog2E), x, t)
	g.VADDPD(shift, t, t)
	g.VSUBPD(shift, t, n)
	g.VMULPD(g.at(cLn2), n, n)
	g.VSUBPD(n, x, x)
	x2, x4 := g.YMM(), g.YMM()
	g.VMULPD(x, x, x2)
	g.VMULPD(x2, x2, x4)
	pair := func(constant, factor int) reg.VecVirtual {
		r := g.YMM()
		g.VMULPD(g.at(factor), x, r)
		g.VADDPD(g.at(constant), r, r)
		return r
	}
	addProduct := func(sum, a reg.VecVirtual, b operand.Op) {
		product := g.YMM()
		g.VMULPD(b, a, product)
		g.VADDPD(product, sum, sum)
	}
	low, high := pair(c2, c3), pair(c6, c7)
	addProduct(low, x2, pair(c4, c5))
	addProduct(high, x2, g.at(c8))
	addProduct(low, x4, high)
	p := g.YMM()
	g.VADDPD(g.at(cOne), x, p)
	addProduct(p, x2, low)
	g.VPSLLQ(operand.U8(52), t, t)
	g.VMULPD(t, p, p)
	return p
}

// sums loads the partial sums; the function it returns stores them and ends.
func (g *generator) sums() (sum [2]reg.VecVirtual, end func()) {
	s := g.Load(g.Param("s"), g.GP64())
	for h := range sum {
		sum[h] = g.YMM()
		g.VMOVUPD(operand.Mem{Base: s, Disp: 32 * h}, sum[h])
	}
	return sum, func() {
		for h := range sum {
			g.VMOVUPD(sum[h], operand.Mem{Base: s, Disp: 32 * h})
		}
		g.VZEROUPPER()
		g.RET()
	}
}

func (g *generator) begin() (x, n reg.Register, shift, floor, magic reg.VecVirtual) {
	x, n = g.Load(g.Param("x"), g.GP64()), g.Load(g.Param("n"), g.GP64())
	base := g.GP64()
	g.LEAQ(g.table, base)
	g.base = base
	return x, n, g.broadcast("shift"), g.load(cFloor), g.load(cShift)
}

func element(base, index reg.Register, half int) operand.Mem {
	return operand.Mem{Base: base, Index: index, Scale: 4, Disp: 16 * half}
}

func (g *generator) addExp() {
	g.function("addExp", "func(s *float64, x *float32, n int, shift float64)",
		"adds exp(x[i] - shift) to s[i%8] for i < n, n a multiple of 8.")
	x, n, shift, floor, magic := g.begin()
	sum, end := g.sums()
	g.each(n, func(index reg.Register) {
		for h := range sum {
			d := g.YMM()
			g.VCVTPS2PD(element(x, index, h), d)
			g.VSUBPD(shift, d, d)
			g.VADDPD(g.exp(d, floor, magic), sum[h], sum[h])
		}
	})
	end()
}

func (g *generator) addDivergence() {
	g.function("addDivergence", "func(s *float64, x, y *float32, n int, shift float64)",
		"adds exp(min(x[i] - shift, 0))·(x[i] - y[i]) to s[i%8] for i < n, n a multiple of 8.")
	x, n, shift, floor, magic := g.begin()
	y := g.Load(g.Param("y"), g.GP64())
	sum, end := g.sums()
	zero := g.YMM()
	g.VXORPD(zero, zero, zero)
	g.each(n, func(index reg.Register) {
		for h := range sum {
			d, difference := g.YMM(), g.YMM()
			g.VCVTPS2PD(element(x, index, h), d)
			g.VCVTPS2PD(element(y, index, h), difference)
			g.VSUBPD(difference, d, difference)
			g.VSUBPD(shift, d, d)
			g.VMINPD(d, zero, d) // NaN stays
			e := g.exp(d, floor, magic)
			g.VMULPD(difference, e, e)
			g.VADDPD(e, sum[h], sum[h])
		}
	})
	end()
}

// largest keeps four vectors, since each maximum waits for the one before.
func (g *generator) largest() {
	const vectors = 4
	g.function("largest", "func(x *float32, n int) float32",
		"returns the largest of n elements that are no NaN, minus infinity if there is none; n is a multiple of 32.")
	x, n := g.Load(g.Param("x"), g.GP64()), g.Load(g.Param("n"), g.GP64())
	infinity, bits := g.XMM(), g.GP32()
	g.MOVL(operand.U32(math.Float32bits(float32(math.Inf(-1)))), bits)
	g.VMOVD(bits, infinity)
	var top [vectors]reg.VecVirtual
	for i := range top {
		top[i] = g.YMM()
		g.VBROADCASTSS(infinity, top[i])
	}
	g.SHRQ(operand.U8(5), n)
	g.JZ(operand.LabelRef("end"))
	g.Label("loop")
	for i := range top {
		v := g.YMM()
		g.VMOVUPS(operand.Mem{Base: x, Disp: 32 * i}, v)
		g.VMAXPS(top[i], v, top[i]) // NaN goes: the second source wins
	}
	g.ADDQ(operand.U32(32*vectors), x)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("loop"))
	g.Label("end")
	g.VMAXPS(top[1], top[0], top[0])
	g.VMAXPS(top[3], top[2], top[2])
	g.VMAXPS(top[2], top[0], top[0])
	first, t := top[0].AsX(), g.XMM()
	g.VEXTRACTF128(operand.U8(1), top[0], t)
	g.VMAXPS(t, first, first)
	g.VPSHUFD(operand.U8(0b01_00_11_10), first, t)
	g.VMAXPS(t, first, first)
	g.VPSHUFD(operand.U8(0b10_11_00_01), first, t)
	g.VMAXPS(t, first, first)
	g.Store(first, g.ReturnIndex(0))
	g.VZEROUPPER()
	g.RET()
}
