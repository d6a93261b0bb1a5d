package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// block is the number of elements of one turn of every loop.
const block = 32

// ahead is how far in front of the reads, in bytes, lines are asked for: more
// than the processor does by itself, which is worth a third where most of what
// moves is read.
const ahead = 2048

// unordered is the comparison that is true of two NaN.
const unordered = operand.U8(3)

// generator emits AVX2.
type generator struct{ *build.Context }

// store writes one vector of the result: into the cache, or past it.
type store func(r, at operand.Op)

// loop emits a function that converts n elements, n a multiple of block, of
// srcBytes each to elements of dstBytes each. turn emits one block: src and dst
// address its first element. The streaming loop writes past the caches, as
// memmove does; dst must be aligned to a vector then.
func (g *generator) loop(name, doc string, dst, src string, dstBytes, srcBytes int, constants func(), turn func(dst, src reg.Register, store store)) {
	g.Function(name + "AVX2")
	g.Attributes(build.NOSPLIT)
	g.SignatureExpr(fmt.Sprintf("func(dst *%s, src *%s, n int, stream bool)", dst, src))
	g.Doc(fmt.Sprintf("%sAVX2 %s n is a multiple of %d; with stream, dst is aligned to 32 bytes and written past the caches.", name, doc, block))
	g.Pragma("noescape")

	to, from := g.Load(g.Param("dst"), g.GP64()), g.Load(g.Param("src"), g.GP64())
	n := g.Load(g.Param("n"), g.GP64())
	stream := g.Load(g.Param("stream"), g.GP8())
	constants()
	g.SHRQ(operand.U8(5), n)
	g.JZ(operand.LabelRef("done"))
	g.TESTB(stream, stream)
	g.JNZ(operand.LabelRef("stream"))
	body := func(label string, store store) {
		g.Label(label)
		for line := 0; line < block*srcBytes; line += 64 {
			g.PREFETCHT0(at(from, ahead+line))
		}
		turn(to, from, store)
		g.ADDQ(operand.U32(block*dstBytes), to)
		g.ADDQ(operand.U32(block*srcBytes), from)
		g.DECQ(n)
		g.JNZ(operand.LabelRef(label))
	}
	body("keep", func(r, at operand.Op) { g.VMOVUPS(r, at) })
	g.Label("done")
	g.VZEROUPPER()
	g.RET()
	body("stream", func(r, at operand.Op) { g.VMOVNTPS(r, at) })
	g.SFENCE()
	g.VZEROUPPER()
	g.RET()
}

func at(base reg.Register, bytes int) operand.Mem { return operand.Mem{Base: base, Disp: bytes} }

// every32 returns a register with bits in each 32-bit lane, every16 in each of 16.
func (g *generator) every32(bits uint32) reg.VecVirtual {
	gp, x, r := g.GP32(), g.XMM(), g.YMM()
	g.MOVL(operand.U32(bits), gp)
	g.VMOVD(gp, x)
	g.VPBROADCASTD(x, r)
	return r
}

func (g *generator) every16(bits uint16) reg.VecVirtual {
	return g.every32(uint32(bits) | uint32(bits)<<16)
}
