package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
)

// generate returns the generated files by name: the assembly and the Go
// declarations that belong to it.
func generate() (map[string][]byte, error) {
	ctx := build.NewContext()
	ctx.ConstraintExpr("!noasm")
	addPanel(ctx)
	f, err := ctx.Result()
	if err != nil {
		return nil, err
	}
	if err := pass.Compile.Execute(f); err != nil {
		return nil, err
	}
	cfg := printer.Config{Name: "gen", Argv: []string{"go", "generate"}, Pkg: "packer"}
	out := map[string][]byte{}
	for name, p := range map[string]printer.Printer{
		"panel_avx2_amd64.s":  printer.NewGoAsm(cfg),
		"panel_avx2_amd64.go": printer.NewStubs(cfg),
	} {
		if out[name], err = p.Print(f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

const (
	rows  = 4
	width = 32 // bytes of a vector: two make the eight columns of a panel
)

// addPanel writes c[r][j] += sum over p < k of a[r·rs + p·ks]·b[p][j] for four rows
// and eight columns. Products are rounded before they are added, one after another,
// as in the plain Go twin.
func addPanel(ctx *build.Context) {
	ctx.Function("addPanelAVX2")
	ctx.Attributes(build.NOSPLIT)
	ctx.SignatureExpr("func(c *float64, ldc int, a *float64, rs, ks int, b *float64, k int)")
	ctx.Doc("addPanelAVX2 adds the products of four rows of a and a panel of eight columns.")
	ctx.Pragma("noescape")
	c, ldc := ctx.Load(ctx.Param("c"), ctx.GP64()), ctx.Load(ctx.Param("ldc"), ctx.GP64())
	a, rs := ctx.Load(ctx.Param("a"), ctx.GP64()), ctx.Load(ctx.Param("rs"), ctx.GP64())
	ks, b := ctx.Load(ctx.Param("ks"), ctx.GP64()), ctx.Load(ctx.Param("b"), ctx.GP64())
	k := ctx.Load(ctx.Param("k"), ctx.GP64())
	for _, stride := range []reg.Register{ldc, rs, ks} {
		ctx.SHLQ(operand.U8(3), stride)
	}
	three := ctx.GP64()
	ctx.LEAQ(operand.Mem{Base: rs, Index: rs, Scale: 2}, three)

	var acc [rows][2]reg.VecVirtual
	at := ctx.GP64()
	ctx.MOVQ(c, at)
	for r := range acc {
		for h := range acc[r] {
			acc[r][h] = ctx.YMM()
			ctx.VMOVUPD(operand.Mem{Base: at, Disp: h * width}, acc[r][h])
		}
		if r+1 < rows {
			ctx.ADDQ(ldc, at)
		}
	}
	ctx.TESTQ(k, k)
	ctx.JZ(operand.LabelRef("done"))
	ctx.Label("step")
	var in [2]reg.VecVirtual
	for h := range in {
		in[h] = ctx.YMM()
		ctx.VMOVUPD(operand.Mem{Base: b, Disp: h * width}, in[h])
	}
	for r, m := range []operand.Mem{
		{Base: a},
		{Base: a, Index: rs, Scale: 1},
		{Base: a, Index: rs, Scale: 2},
		{Base: a, Index: three, Scale: 1},
	} {
		x := ctx.YMM()
		ctx.VBROADCASTSD(m, x)
		for h := range in {
			product := ctx.YMM()
			ctx.VMULPD(in[h], x, product)
			ctx.VADDPD(product, acc[r][h], acc[r][h])
		}
	}
	ctx.ADDQ(ks, a)
	ctx.ADDQ(operand.U8(2*width), b)
	ctx.DECQ(k)
	ctx.JNZ(operand.LabelRef("step"))
	ctx.Label("done")
	for r := range acc {
		for h := range acc[r] {
			ctx.VMOVUPD(acc[r][h], operand.Mem{Base: c, Disp: h * width})
		}
		if r+1 < rows {
			ctx.ADDQ(ldc, c)
		}
	}
	ctx.VZEROUPPER()
	ctx.RET()
}
