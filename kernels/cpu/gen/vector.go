package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectorFuncs writes the routines on rows: see kernel.go for their contracts.
func vectorFuncs(ctx *build.Context, s set) {
	v := &vectors{Context: ctx, set: s, constants: table(ctx, s)}
	v.softmax()
	v.siluMul()
	v.normMul()
	v.scale()
	v.sumSquares()
	v.tokenFuncs()
	if s.lanes == 8 { // what moves data only is no faster on wider vectors
		v.interleave()
	}
}

func (v *vectors) function(name, signature, doc string) {
	v.Function(name + v.name)
	v.Attributes(build.NOSPLIT)
	v.SignatureExpr(signature)
	v.Doc(fmt.Sprintf("%s%s %s", name, v.name, doc))
	v.Pragma("noescape")
}

// each loops over whole vectors: body is called with the byte offset register.
func (v *vectors) each(name string, n reg.Register, body func(offset reg.Register)) {
	offset := v.GP64()
	v.XORQ(offset, offset)
	v.SHLQ(operand.U8(2), n)
	v.JZ(operand.LabelRef(name + "End"))
	v.Label(name)
	body(offset)
	v.ADDQ(operand.U8(4*v.lanes), offset)
	v.CMPQ(offset, n)
	v.JLT(operand.LabelRef(name))
	v.Label(name + "End")
}

func indexed(base, offset reg.Register) operand.Mem {
	return operand.Mem{Base: base, Index: offset, Scale: 1}
}

func (v *vectors) broadcast(param string) reg.VecVirtual {
	r := v.vector(v.Context)
	a, err := v.Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	v.VBROADCASTSS(a.Addr, r)
	return r
}

func (v *vectors) softmax() {
	v.function("softmax", "func(x *float32, n int, top float32) (newTop, sum float32)",
		"raises top to the largest of x, replaces x by exp(x - top) and sums it; it fills up the last vector with zeros.")
	v.begin()
	x := v.Load(v.Param("x"), v.GP64())
	n := v.Load(v.Param("n"), v.GP64())
	rest, mask := v.GP64(), v.GP64()
	v.MOVQ(n, rest)
	v.ANDQ(operand.U8(v.lanes-1), rest)
	v.SUBQ(rest, n)
	// mask points at a vector of the table with the first rest lanes set.
	v.MOVQ(operand.U32(4*v.lanes*(constants+1)), mask)
	shift := v.GP64()
	v.MOVQ(rest, shift)
	v.SHLQ(operand.U8(2), shift)
	v.SUBQ(shift, mask)
	v.ADDQ(v.base, mask)

	count := v.GP64()
	top := v.broadcast("top")
	v.MOVQ(n, count)
	var end reg.Register
	v.each("max", count, func(offset reg.Register) {
		v.VMAXPS(indexed(x, offset), top, top)
		end = offset
	})
	v.TESTQ(rest, rest)
	v.JZ(operand.LabelRef("maxDone"))
	last := v.vector(v.Context)
	v.VMOVUPS(indexed(x, end), last)
	v.choose(mask, last)
	v.VMAXPS(last, top, top)
	v.Label("maxDone")
	first := v.reduce(top, v.VMAXPS)
	v.Store(first, v.Return("newTop"))
	v.VBROADCASTSS(first, top)

	sum := v.vector(v.Context)
	v.xor(sum, sum, sum)
	low, magic := v.load(cLow), v.load(cMagic)
	power := func(t reg.VecVirtual) reg.VecVirtual {
		v.VSUBPS(top, t, t)
		v.VMAXPS(t, low, t) // NaN stays: the second source wins
		return v.exp(t, magic)
	}
	v.MOVQ(n, count)
	v.each("exp", count, func(offset reg.Register) {
		t := v.vector(v.Context)
		v.VMOVUPS(indexed(x, offset), t)
		e := power(t)
		v.VMOVUPS(e, indexed(x, offset))
		v.VADDPS(e, sum, sum)
		end = offset
	})
	v.TESTQ(rest, rest)
	v.JZ(operand.LabelRef("expDone"))
	t := v.vector(v.Context)
	v.VMOVUPS(indexed(x, end), t)
	e := power(t)
	v.keep(mask, e)
	v.VMOVUPS(e, indexed(x, end))
	v.VADDPS(e, sum, sum)
	v.Label("expDone")
	v.Store(v.reduce(sum, v.VADDPS), v.Return("sum"))
	v.VZEROUPPER()
	v.RET()
}

// choose replaces the lanes of r outside the mask by minus infinity.
func (v *vectors) choose(mask reg.Register, r reg.VecVirtual) {
	m := v.vector(v.Context)
	v.VMOVUPS(operand.Mem{Base: mask}, m)
	if v.lanes == 16 {
		k := v.K()
		v.VPTESTMD(m, m, k)
		inf := v.load(cMinusInf)
		v.VBLENDMPS(r, inf, k, r)
		return
	}
	inf := v.load(cMinusInf)
	v.VBLENDVPS(m, r, inf, r)
}

// keep clears the lanes of r outside the mask.
func (v *vectors) keep(mask reg.Register, r reg.VecVirtual) {
	if v.lanes == 16 {
		v.VPANDD(operand.Mem{Base: mask}, r, r)
		return
	}
	v.VANDPS(operand.Mem{Base: mask}, r, r)
}

func (v *vectors) siluMul() {
	v.function("siluMul", "func(dst, gate, up *float32, n int)",
		"writes gate/(1+exp(-gate))·up for n elements, n a multiple of the vector.")
	v.begin()
	dst, gate := v.Load(v.Param("dst"), v.GP64()), v.Load(v.Param("gate"), v.GP64())
	up, n := v.Load(v.Param("up"), v.GP64()), v.Load(v.Param("n"), v.GP64())
	low, high, magic := v.load(cLow), v.load(cHigh), v.load(cMagic)
	v.each("silu", n, func(offset reg.Register) {
		g, t := v.vector(v.Context), v.vector(v.Context)
		v.VMOVUPS(indexed(gate, offset), g)
		v.xor(v.at(cSign), g, t)
		v.VMAXPS(t, low, t)
		v.VMINPS(t, high, t)
		e := v.exp(t, magic)
		v.VADDPS(v.at(cOne), e, e)
		v.VDIVPS(e, g, g)
		v.VMULPS(indexed(up, offset), g, g)
		v.VMOVUPS(g, indexed(dst, offset))
	})
	v.VZEROUPPER()
	v.RET()
}

func (v *vectors) normMul() {
	v.function("normMul", "func(dst, x, weight *float32, n int, scale float32)",
		"writes weight·(x·scale) for n elements, n a multiple of the vector.")
	dst, x := v.Load(v.Param("dst"), v.GP64()), v.Load(v.Param("x"), v.GP64())
	weight, n := v.Load(v.Param("weight"), v.GP64()), v.Load(v.Param("n"), v.GP64())
	scale := v.broadcast("scale")
	v.each("norm", n, func(offset reg.Register) {
		t := v.vector(v.Context)
		v.VMULPS(indexed(x, offset), scale, t)
		v.VMULPS(indexed(weight, offset), t, t)
		v.VMOVUPS(t, indexed(dst, offset))
	})
	v.VZEROUPPER()
	v.RET()
}

func (v *vectors) scale() {
	v.function("scale", "func(dst, x *float32, n int, scale float32)",
		"writes x·scale for n elements, n a multiple of the vector.")
	dst, x := v.Load(v.Param("dst"), v.GP64()), v.Load(v.Param("x"), v.GP64())
	n := v.Load(v.Param("n"), v.GP64())
	scale := v.broadcast("scale")
	v.each("scale", n, func(offset reg.Register) {
		t := v.vector(v.Context)
		v.VMULPS(indexed(x, offset), scale, t)
		v.VMOVUPS(t, indexed(dst, offset))
	})
	v.VZEROUPPER()
	v.RET()
}

func (v *vectors) sumSquares() {
	v.function("sumSquares", "func(x *float32, n int) float32",
		"returns the sum of x² over n elements, n a multiple of the vector: one sum a lane, then halves.")
	x, n := v.Load(v.Param("x"), v.GP64()), v.Load(v.Param("n"), v.GP64())
	sum := v.vector(v.Context)
	v.xor(sum, sum, sum)
	v.each("square", n, func(offset reg.Register) {
		t := v.vector(v.Context)
		v.VMOVUPS(indexed(x, offset), t)
		v.VFMADD231PS(t, t, sum)
	})
	v.Store(v.reduce(sum, v.VADDPS), v.ReturnIndex(0))
	v.VZEROUPPER()
	v.RET()
}
