package main

import (
	"encoding/binary"
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// maxParts is the number of BF16 numbers that hold any FP32 number: 3 x 8 bits.
const maxParts = 3

const tileBytes = 16 * 64 // 16 rows of 32 BF16 or 16 FP32

// amxFuncs writes the products of BF16 tiles and what cuts FP32 for them. Neither
// avo nor Go's assembler has AMX, so its instructions are written as bytes and
// registers are chosen here.
func amxFuncs(ctx *build.Context) {
	cut(ctx)
	for _, a := range []int{1, maxParts} {
		for b := 1; b <= maxParts; b++ {
			partTile(ctx, a, b)
		}
	}
}

// amx emits instructions of the AMX extension (Intel SDM, volume 2).
type amx struct{ *build.Context }

func (x amx) bytes(code ...byte) {
	for _, b := range code {
		x.Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []operand.Op{operand.U8(b)}})
	}
}

// Numbers of the registers that AMX addresses use, as ModRM and SIB have them.
const (
	numCX = 1
	numDX = 2
	numBX = 3
	numSI = 6
	numDI = 7
)

// memory is [base + index + disp] behind an opcode.
func (x amx) memory(prefix, opcode, tile, base, index byte, disp int) {
	code := []byte{0xc4, 0xe2, prefix, opcode, 0x84 | tile<<3, index<<3 | base}
	x.bytes(binary.LittleEndian.AppendUint32(code, uint32(disp))...)
}

// load is TILELOADD: 16 rows of 64 bytes, CX apart.
func (x amx) load(tile, base byte, disp int) { x.memory(0x7b, 0x4b, tile, base, numCX, disp) }

// store is TILESTORED to [DX + disp], rows BX apart.
func (x amx) store(tile byte, disp int) { x.memory(0x7a, 0x4b, tile, numDX, numBX, disp) }

// zero is TILEZERO.
func (x amx) zero(tile byte) { x.bytes(0xc4, 0xe2, 0x7b, 0x49, 0xc0|tile<<3) }

// multiply is TDPBF16PS: c += a·b.
func (x amx) multiply(c, a, b byte) {
	x.bytes(0xc4, 0xe2, (^b&15)<<3|2, 0x5c, 0xc0|c<<3|a)
}

// configure is LDTILECFG [AX].
func (x amx) configure() { x.bytes(0xc4, 0xe2, 0x78, 0x49, 0x00) }

// release is TILERELEASE.
func (x amx) release() { x.bytes(0xc4, 0xe2, 0x78, 0x49, 0xc0) }

// terms are the products of parts i of a and j of b, numbered from 0, the
// smallest first. Left out are those below 2^-24 of the whole, i + j > 2.
func terms(na, nb int) [][2]int {
	all := [][2]int{{2, 0}, {1, 1}, {0, 2}, {0, 1}, {1, 0}, {0, 0}} // neighbours share tiles
	var have [][2]int
	for _, t := range all {
		if t[0] < na && t[1] < nb {
			have = append(have, t)
		}
	}
	return have
}

// partTile writes partsAxB: 32 columns of c for rows of a, 32 rows a turn.
//
// For each step of 32 k, a holds maxParts parts and b nb parts, each of them two
// tiles: rows 0-15 and 16-31, columns 0-15 and 16-31. Tiles 0 to 3 sum the four
// quarters of c over all steps, 4 and 5 are of a, 6 and 7 of b.
func partTile(ctx *build.Context, na, nb int) {
	name := fmt.Sprintf("parts%dx%dAMX", na, nb)
	ctx.Function(name)
	ctx.Attributes(build.NOSPLIT)
	ctx.SignatureExpr("func(rows, steps int, a, b *uint16, c *float32, ldc int, init *float32, ldinit int, exponent, scale, column *float32, mask uint32, sums *float32, config *byte, next uintptr)")
	ctx.Doc(fmt.Sprintf("%s computes 32 columns of c from %d BF16 parts of a and %d of b.", name, na, nb))
	ctx.Pragma("noescape")
	x := amx{ctx}

	param := func(name string, r reg.GPPhysical) { ctx.Load(ctx.Param(name), r) }
	param("config", reg.RAX)
	x.configure()
	rows, a, c, ldc, init, next := reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13
	exponent, scale := reg.R14, reg.R15
	param("rows", rows)
	param("a", a)
	param("c", c)
	param("ldc", ldc)
	ctx.SHLQ(operand.U8(2), ldc)
	param("init", init)
	param("next", next)
	param("exponent", exponent)
	param("scale", scale)
	ctx.Load(ctx.Param("mask"), reg.EAX)
	ctx.KMOVW(reg.EAX, reg.K1)
	ctx.SHRL(operand.U8(16), reg.EAX)
	ctx.KMOVW(reg.EAX, reg.K2)
	mask := [2]reg.Register{reg.K1, reg.K2}
	column := [2]reg.Register{reg.Z30, reg.Z31}
	param("column", reg.RAX)
	for h, v := range column {
		ctx.VMOVUPS(operand.Mem{Base: reg.RAX, Disp: 64 * h}, v)
	}

	ctx.Label("group")
	ctx.MOVQ(a, reg.RSI)
	param("b", reg.RDI)
	ctx.MOVQ(operand.U32(64), reg.RCX)
	for t := range byte(4) {
		x.zero(t)
	}
	param("steps", reg.RAX)
	ctx.TESTQ(reg.RAX, reg.RAX)
	ctx.JZ(operand.LabelRef("summed"))
	ctx.Label("step")
	inA, inB := -1, -1
	for _, t := range terms(na, nb) {
		for half := range byte(2) {
			if t[0] != inA {
				x.load(4+half, numSI, (2*t[0]+int(half))*tileBytes)
			}
			if t[1] != inB {
				x.load(6+half, numDI, (2*t[1]+int(half))*tileBytes)
			}
		}
		inA, inB = t[0], t[1]
		for q := range byte(4) {
			x.multiply(q, 4+q/2, 6+q%2)
		}
	}
	// The next panel comes from memory while this one is used: four groups of
	// rows ask for all of it.
	lines := 2 * nb * tileBytes / 64 / 4
	for i := range lines {
		ctx.PREFETCHT1(operand.Mem{Base: next, Disp: 64 * i})
	}
	ctx.ADDQ(operand.U32(64*lines), next)
	ctx.ADDQ(operand.U32(2*maxParts*tileBytes), reg.RSI)
	ctx.ADDQ(operand.U32(2*nb*tileBytes), reg.RDI)
	ctx.DECQ(reg.RAX)
	ctx.JNZ(operand.LabelRef("step"))
	ctx.Label("summed")
	ctx.MOVQ(reg.RSI, a)

	param("sums", reg.RDX)
	ctx.MOVQ(operand.U32(128), reg.RBX)
	for q := range byte(4) {
		x.store(q, int(q/2)*16*128+int(q%2)*64)
	}
	param("ldinit", reg.RCX)
	ctx.SHLQ(operand.U8(2), reg.RCX)
	ctx.MOVQ(operand.U32(32), reg.RAX)
	ctx.CMPQ(rows, reg.RAX)
	ctx.CMOVQLT(rows, reg.RAX)
	ctx.Label("row")
	ctx.VBROADCASTSS(operand.Mem{Base: exponent}, reg.Z0)
	ctx.VBROADCASTSS(operand.Mem{Base: scale}, reg.Z1)
	for h := range 2 {
		sum, by, out := []reg.Register{reg.Z2, reg.Z3}[h], []reg.Register{reg.Z4, reg.Z5}[h], []reg.Register{reg.Z6, reg.Z7}[h]
		ctx.VADDPS(column[h], reg.Z0, by)
		ctx.VMOVUPS(operand.Mem{Base: reg.RDX, Disp: 64 * h}, sum)
		ctx.VSCALEFPS(by, sum, sum)
		ctx.VMOVUPS_Z(operand.Mem{Base: init, Disp: 64 * h}, mask[h], out)
		ctx.VFMADD231PS(reg.Z1, sum, out)
		ctx.VMOVUPS(out, mask[h], operand.Mem{Base: c, Disp: 64 * h})
	}
	ctx.ADDQ(operand.U32(128), reg.RDX)
	ctx.ADDQ(operand.U8(4), exponent)
	ctx.ADDQ(operand.U8(4), scale)
	ctx.ADDQ(ldc, c)
	ctx.ADDQ(reg.RCX, init)
	ctx.DECQ(reg.RAX)
	ctx.JNZ(operand.LabelRef("row"))
	ctx.SUBQ(operand.U8(32), rows)
	ctx.JG(operand.LabelRef("group"))
	x.release()
	ctx.VZEROUPPER()
	ctx.RET()
}

// cut writes x·2^-exponent as a sum of three BF16 numbers, rounded to nearest
// with halves away from zero; the third is exact, as 24 bits are three times 8.
// Elements i and i+16 of every 32 become neighbours, which costs one shift; a and
// b have the same order of k, so that products do not see it.
func cut(ctx *build.Context) {
	ctx.Function("cutAMX")
	ctx.Attributes(build.NOSPLIT)
	ctx.SignatureExpr("func(dst *uint16, step, part int, x *float32, n int, exponent float32) (second, third uint32)")
	ctx.Doc("cutAMX writes x·2^-exponent as three BF16 parts, part bytes apart, step bytes from one 32 elements to the next, and tells whether any second and third part is not 0.")
	ctx.Pragma("noescape")
	dst, step, part := ctx.Load(ctx.Param("dst"), ctx.GP64()), ctx.Load(ctx.Param("step"), ctx.GP64()), ctx.Load(ctx.Param("part"), ctx.GP64())
	x, n := ctx.Load(ctx.Param("x"), ctx.GP64()), ctx.Load(ctx.Param("n"), ctx.GP64())
	v := &vectors{Context: ctx, set: avx512}
	exponent, nothing := v.broadcast("exponent"), ctx.ZMM()
	v.xor(nothing, nothing, nothing)
	ctx.VSUBPS(exponent, nothing, exponent)
	half, high := v.every(1<<15), v.every(0xffff<<16)
	remains := [maxParts]reg.VecVirtual{1: ctx.ZMM(), 2: ctx.ZMM()}
	for _, r := range remains[1:] {
		v.xor(r, r, r)
	}
	ctx.SHRQ(operand.U8(5), n)
	ctx.JZ(operand.LabelRef("cutEnd"))
	ctx.Label("cut")
	var rest [2]reg.VecVirtual
	for h := range rest {
		rest[h] = ctx.ZMM()
		ctx.VMOVUPS(operand.Mem{Base: x, Disp: 64 * h}, rest[h])
		ctx.VSCALEFPS(exponent, rest[h], rest[h])
	}
	at := ctx.GP64()
	ctx.MOVQ(dst, at)
	for p := range maxParts {
		var top [2]reg.VecVirtual
		for h := range top {
			top[h] = ctx.ZMM()
			if p == maxParts-1 { // nothing is cut off but where the rest is subnormal
				ctx.VPANDD(high, rest[h], top[h])
				continue
			}
			ctx.VPADDD(half, rest[h], top[h])
			ctx.VPANDD(high, top[h], top[h])
			ctx.VSUBPS(top[h], rest[h], rest[h])
		}
		ctx.VPSRLD(operand.U8(16), top[0], top[0])
		ctx.VPORD(top[0], top[1], top[1])
		ctx.VMOVDQU32(top[1], operand.Mem{Base: at})
		if p > 0 {
			ctx.VPORD(top[1], remains[p], remains[p])
		}
		if p < maxParts-1 {
			ctx.ADDQ(part, at)
		}
	}
	ctx.ADDQ(step, dst)
	ctx.ADDQ(operand.U8(128), x)
	ctx.DECQ(n)
	ctx.JNZ(operand.LabelRef("cut"))
	ctx.Label("cutEnd")
	for p, r := range remains[1:] {
		// x - x is +0: a part that is 0 has no sign.
		flag, mask := ctx.GP32(), ctx.K()
		ctx.VPTESTMD(r, r, mask)
		ctx.KMOVW(mask, flag)
		ctx.Store(flag, ctx.ReturnIndex(p))
	}
	ctx.VZEROUPPER()
	ctx.RET()
}
