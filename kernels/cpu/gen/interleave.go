package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// interleave writes eight rows as eight columns, four elements of each a turn:
// the rows 0 to 3 in the lower halves of vectors and 4 to 7 in the upper ones,
// both halves transposed at once.
func (v *vectors) interleave() {
	v.function("interleave", "func(dst *float32, ldd int, src *float32, lds, n int)",
		"writes dst[i*ldd+r] = src[r*lds+i] for eight rows r and n elements i, n a multiple of 4.")
	dst, ldd := v.Load(v.Param("dst"), v.GP64()), v.Load(v.Param("ldd"), v.GP64())
	src, lds := v.Load(v.Param("src"), v.GP64()), v.Load(v.Param("lds"), v.GP64())
	n := v.Load(v.Param("n"), v.GP64())
	v.SHLQ(operand.U8(2), ldd)
	v.SHLQ(operand.U8(2), lds)
	rows := rowAddresses(v.Context, 7, lds)
	rows.set(v.Context, src)
	last := v.GP64() // row 7 is out of reach of the index registers
	v.LEAQ(operand.Mem{Base: src, Index: rows.three, Scale: 2}, last)
	v.ADDQ(lds, last)
	row := func(r int) operand.Mem {
		if r == 7 {
			return operand.Mem{Base: last}
		}
		return rows.row(r, 0)
	}
	v.SHRQ(operand.U8(2), n)
	v.JZ(operand.LabelRef("end"))
	v.Label("loop")
	var in [4]reg.VecVirtual
	for r := range in {
		in[r] = v.YMM()
		v.VMOVUPS(row(r), in[r].AsX())
		v.VINSERTF128(operand.U8(1), row(r+4), in[r], in[r])
	}
	low, high := [2]reg.VecVirtual{v.YMM(), v.YMM()}, [2]reg.VecVirtual{v.YMM(), v.YMM()}
	for h := range low { // rows 0 and 1, rows 2 and 3
		v.VUNPCKLPS(in[2*h+1], in[2*h], low[h])
		v.VUNPCKHPS(in[2*h+1], in[2*h], high[h])
	}
	for _, pair := range [2][2]reg.VecVirtual{low, high} {
		column := v.YMM()
		v.VUNPCKLPD(pair[1], pair[0], column)
		v.VMOVUPS(column, operand.Mem{Base: dst})
		v.ADDQ(ldd, dst)
		v.VUNPCKHPD(pair[1], pair[0], column)
		v.VMOVUPS(column, operand.Mem{Base: dst})
		v.ADDQ(ldd, dst)
	}
	rows.advance(v.Context, 16)
	v.ADDQ(operand.U8(16), last)
	v.DECQ(n)
	v.JNZ(operand.LabelRef("loop"))
	v.Label("end")
	v.VZEROUPPER()
	v.RET()
}
