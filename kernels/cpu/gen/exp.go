package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The constants of exp, in the order of the table that every function reads.
const (
	cLog2E = iota
	cMagic // 1.5·2^23 + 127: x + cMagic has round(x) + 127 in its low bits
	cLn2High
	cLn2Low
	cQ0 // exp(r) = 1 + r + r²·(q0 + q1 r + .. + q4 r⁴), |r| <= ln2/2:
	cQ1 // the minimax q, relative error of exp 3.1e-9
	cQ2
	cQ3
	cQ4
	cOne
	cLow  // below, 2^n would be subnormal
	cHigh // above, 2^n would be infinite
	cMinusInf
	cSign
	constants
)

var constant = [constants]uint32{
	cLog2E:    math.Float32bits(math.Log2E),
	cMagic:    math.Float32bits(12582912 + 127),
	cLn2High:  math.Float32bits(355.0 / 512), // nine bits: n·cLn2High is exact
	cLn2Low:   math.Float32bits(math.Ln2 - 355.0/512),
	cQ0:       0x3efffffe,
	cQ1:       0x3e2aaa49,
	cQ2:       0x3d2aac79,
	cQ3:       0x3c091cf1,
	cQ4:       0x3ab5121a,
	cOne:      math.Float32bits(1),
	cLow:      math.Float32bits(-87.3),
	cHigh:     math.Float32bits(88),
	cMinusInf: 0xff800000,
	cSign:     1 << 31,
}

// table writes every constant repeated over one vector, and then the masks from
// which a vector with its first r lanes set is read at lane (lanes - r).
func table(ctx *build.Context, s set) operand.Mem {
	m := ctx.StaticGlobal("vector" + s.name)
	ctx.DataAttributes(attr.RODATA | attr.NOPTR)
	for i, bits := range constant {
		for l := range s.lanes {
			ctx.AddDatum(4*(i*s.lanes+l), operand.U32(bits))
		}
	}
	for i, bits := range [2]uint32{math.MaxUint32, 0} {
		for l := range s.lanes {
			ctx.AddDatum(4*((constants+i)*s.lanes+l), operand.U32(bits))
		}
	}
	return m
}

// vectors emits the instructions that differ between the two sets.
type vectors struct {
	*build.Context
	set
	constants operand.Mem
	base      reg.Register // of the table; set by begin
}

func (v *vectors) begin() {
	base := v.GP64()
	v.LEAQ(v.constants, base)
	v.base = base
}

func (v *vectors) at(i int) operand.Mem { return operand.Mem{Base: v.base, Disp: 4 * v.lanes * i} }

// load returns a register that holds constant i.
func (v *vectors) load(i int) reg.VecVirtual {
	r := v.vector(v.Context)
	v.VMOVUPS(v.at(i), r)
	return r
}

func (v *vectors) xor(a operand.Op, b, dst reg.Register) {
	if v.lanes == 16 {
		v.VPXORD(a, b, dst) // VXORPS on 512 bits would ask for AVX512DQ
		return
	}
	v.VXORPS(a, b, dst)
}

// exp returns exp(x) in a new register and spoils x, which must lie between
// cLow and cHigh or be NaN. NaN gives NaN: n only scales. The terms of q are
// summed in pairs (Estrin), so that they wait for each other less: an
// exponential takes longer to come out than the processor looks ahead.
func (v *vectors) exp(x, magic reg.Register) reg.VecVirtual {
	n, scale := v.vector(v.Context), v.vector(v.Context)
	v.VMOVAPS(magic, scale)
	v.VFMADD231PS(v.at(cLog2E), x, scale)
	v.VSUBPS(magic, scale, n)
	v.VFNMADD231PS(v.at(cLn2High), n, x)
	v.VFNMADD231PS(v.at(cLn2Low), n, x)
	v.VMULPS(x, x, n)
	q, high := v.load(cQ1), v.load(cQ3)
	v.VFMADD213PS(v.at(cQ0), x, q)
	v.VFMADD213PS(v.at(cQ2), x, high)
	v.VFMADD231PS(v.at(cQ4), n, high)
	v.VFMADD231PS(high, n, q)
	v.VFMADD213PS(x, n, q)
	v.VADDPS(v.at(cOne), q, q)
	v.VPSLLD(operand.U8(23), scale, scale)
	v.VMULPS(scale, q, q)
	return q
}

// reduce folds the lanes of r into its first one in a fixed order of halves.
func (v *vectors) reduce(r reg.VecVirtual, op func(...operand.Op)) reg.Register {
	y, x, t := r.AsY(), r.AsX(), v.XMM()
	if v.lanes == 16 {
		half := v.YMM()
		v.VEXTRACTF64X4(operand.U8(1), r, half)
		op(half, y, y)
	}
	v.VEXTRACTF128(operand.U8(1), y, t)
	op(t, x, x)
	v.VPSHUFD(operand.U8(0b01_00_11_10), x, t)
	op(t, x, x)
	v.VPSHUFD(operand.U8(0b10_11_00_01), x, t)
	op(t, x, x)
	return x
}
