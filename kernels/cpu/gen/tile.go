package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// set is an instruction set and the shape of its product tile: rows x 2
// vectors of accumulators, which leaves registers for two vectors of B and two
// broadcasts of A.
type set struct {
	name, file string
	rows       int
	lanes      int // float32 of a vector
	vector     func(*build.Context) reg.VecVirtual
}

var (
	avx2   = set{"AVX2", "kernels_avx2", 6, 8, (*build.Context).YMM}
	avx512 = set{"AVX512", "kernels_avx512", 14, 16, (*build.Context).ZMM}
)

const unroll = 4 // steps of k in the inner loop

// tile writes tileRxN: c = init + a·b for `tiles` consecutive tiles of r rows.
//
// a holds rows of k contiguous elements; b is one packed panel, k rows of n
// elements; every element of c is ONE chain of fused multiply-adds in the order
// of k, whatever the tile, and then one addition of init. Each tile prefetches
// the next `lines` cache lines from next on; next is an address and no pointer,
// since it may lie behind the last panel, where the collector allows no pointer.
func tile(ctx *build.Context, s set, rows int) {
	n := 2 * s.lanes
	width := 4 * s.lanes // bytes of a vector
	ctx.Function(fmt.Sprintf("tile%dx%d%s", rows, n, s.name))
	ctx.Attributes(build.NOSPLIT)
	ctx.SignatureExpr("func(tiles, k int, a *float32, lda int, b *float32, c *float32, ldc int, init *float32, ldinit int, next uintptr, lines int)")
	ctx.Doc(fmt.Sprintf("tile%dx%d%s computes c = init + a·b for `tiles` blocks of %d rows and one panel of %d columns.", rows, n, s.name, rows, n))
	ctx.Pragma("noescape")

	tiles := ctx.Load(ctx.Param("tiles"), ctx.GP64())
	a := ctx.Load(ctx.Param("a"), ctx.GP64())
	lda := ctx.Load(ctx.Param("lda"), ctx.GP64())
	c := ctx.Load(ctx.Param("c"), ctx.GP64())
	ldc := ctx.Load(ctx.Param("ldc"), ctx.GP64())
	init := ctx.Load(ctx.Param("init"), ctx.GP64())
	ldinit := ctx.Load(ctx.Param("ldinit"), ctx.GP64())
	next := ctx.Load(ctx.Param("next"), ctx.GP64())
	for _, ld := range []reg.Register{lda, ldc, ldinit} {
		ctx.SHLQ(operand.U8(2), ld)
	}
	at := rowAddresses(ctx, rows, lda)

	acc := make([][2]reg.VecVirtual, rows)
	for r := range acc {
		acc[r] = [2]reg.VecVirtual{s.vector(ctx), s.vector(ctx)}
	}
	pb, count := ctx.GP64(), ctx.GP64()

	ctx.Label("tile")
	at.set(ctx, a)
	ctx.Load(ctx.Param("b"), pb)
	ahead := ctx.GP64()
	ctx.MOVQ(c, ahead)
	for r := range rows {
		ctx.PREFETCHT0(operand.Mem{Base: ahead})
		if r+1 < rows {
			ctx.ADDQ(ldc, ahead)
		}
		for _, v := range acc[r] {
			zero(ctx, s, v)
		}
	}

	// The next panel comes from memory while this one is used: each tile asks
	// for its share of it.
	ctx.Load(ctx.Param("lines"), count)
	ctx.TESTQ(count, count)
	ctx.JZ(operand.LabelRef("fetched"))
	ctx.Label("fetch")
	ctx.PREFETCHT1(operand.Mem{Base: next})
	ctx.ADDQ(operand.U8(64), next)
	ctx.DECQ(count)
	ctx.JNZ(operand.LabelRef("fetch"))
	ctx.Label("fetched")

	step := func(u int) {
		b0, b1 := s.vector(ctx), s.vector(ctx)
		ctx.VMOVUPS(operand.Mem{Base: pb, Disp: u * 2 * width}, b0)
		ctx.VMOVUPS(operand.Mem{Base: pb, Disp: u*2*width + width}, b1)
		for r := range rows {
			x := s.vector(ctx)
			ctx.VBROADCASTSS(at.row(r, 4*u), x)
			ctx.VFMADD231PS(b0, x, acc[r][0])
			ctx.VFMADD231PS(b1, x, acc[r][1])
		}
	}
	loop := func(name string, steps int) {
		ctx.JZ(operand.LabelRef(name + "End"))
		ctx.Label(name)
		for u := range steps {
			step(u)
		}
		at.advance(ctx, 4*steps)
		ctx.ADDQ(operand.U32(2*width*steps), pb)
		ctx.DECQ(count)
		ctx.JNZ(operand.LabelRef(name))
		ctx.Label(name + "End")
	}
	ctx.Load(ctx.Param("k"), count)
	ctx.SHRQ(operand.U8(2), count)
	loop("steps", unroll)
	ctx.Load(ctx.Param("k"), count)
	ctx.ANDQ(operand.U8(unroll-1), count)
	loop("rest", 1)

	for r := range rows {
		for h, v := range acc[r] {
			ctx.VADDPS(operand.Mem{Base: init, Disp: h * width}, v, v)
			ctx.VMOVUPS(v, operand.Mem{Base: c, Disp: h * width})
		}
		ctx.ADDQ(ldinit, init)
		ctx.ADDQ(ldc, c)
	}
	ctx.Load(ctx.Param("lda"), count)
	ctx.IMUL3Q(operand.U8(4*rows), count, count)
	ctx.ADDQ(count, a)
	ctx.DECQ(tiles)
	ctx.JNZ(operand.LabelRef("tile"))
	ctx.VZEROUPPER()
	ctx.RET()
}

func zero(ctx *build.Context, s set, v reg.VecVirtual) {
	if s.lanes == 16 {
		ctx.VPXORD(v, v, v) // VXORPS on 512 bits would ask for AVX512DQ
		return
	}
	ctx.VXORPS(v, v, v)
}

// addresses reaches up to 14 rows of A from two pointers, seven rows apart,
// through the index registers 1, 3 and 5 times the stride.
type addresses struct {
	base             []reg.GPVirtual
	lda, three, five reg.Register
}

func rowAddresses(ctx *build.Context, rows int, lda reg.Register) *addresses {
	t := &addresses{lda: lda, base: []reg.GPVirtual{ctx.GP64()}}
	if rows > 7 {
		t.base = append(t.base, ctx.GP64())
	}
	if rows > 3 {
		three := ctx.GP64()
		ctx.LEAQ(operand.Mem{Base: lda, Index: lda, Scale: 2}, three)
		t.three = three
	}
	if rows > 5 {
		five := ctx.GP64()
		ctx.LEAQ(operand.Mem{Base: lda, Index: lda, Scale: 4}, five)
		t.five = five
	}
	return t
}

func (t *addresses) set(ctx *build.Context, a reg.Register) {
	ctx.MOVQ(a, t.base[0])
	if len(t.base) > 1 {
		ctx.LEAQ(operand.Mem{Base: a, Index: t.five, Scale: 1}, t.base[1])
		ctx.LEAQ(operand.Mem{Base: t.base[1], Index: t.lda, Scale: 2}, t.base[1])
	}
}

func (t *addresses) row(r, disp int) operand.Mem {
	m := operand.Mem{Base: t.base[r/7], Disp: disp}
	switch r % 7 {
	case 1:
		m.Index, m.Scale = t.lda, 1
	case 2:
		m.Index, m.Scale = t.lda, 2
	case 3:
		m.Index, m.Scale = t.three, 1
	case 4:
		m.Index, m.Scale = t.lda, 4
	case 5:
		m.Index, m.Scale = t.five, 1
	case 6:
		m.Index, m.Scale = t.three, 2
	}
	return m
}

func (t *addresses) advance(ctx *build.Context, bytes int) {
	for _, b := range t.base {
		ctx.ADDQ(operand.U8(bytes), b)
	}
}
