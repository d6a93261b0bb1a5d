package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// generate returns the generated files by name: for each instruction set its
// assembly and the Go declarations that belong to it.
func generate() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, s := range []set{avx2, avx512} {
		err := compile(out, s.file, func(ctx *build.Context) {
			for rows := 1; rows <= s.rows; rows++ {
				tile(ctx, s, rows)
			}
			vectorFuncs(ctx, s)
		})
		if err != nil {
			return nil, err
		}
	}
	return out, compile(out, "kernels_amx", amxFuncs)
}

// compile adds the two files of the functions that write gives.
func compile(out map[string][]byte, file string, write func(*build.Context)) error {
	ctx := build.NewContext()
	ctx.ConstraintExpr("!noasm")
	write(ctx)
	f, err := ctx.Result()
	if err != nil {
		return err
	}
	if err := pass.Compile.Execute(f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	cfg := printer.Config{Name: "gen", Argv: []string{"go", "generate"}, Pkg: "cpu"}
	for suffix, p := range map[string]printer.Printer{
		"_amd64.s":  printer.NewGoAsm(cfg),
		"_amd64.go": printer.NewStubs(cfg),
	} {
		text, err := p.Print(f)
		if err != nil {
			return fmt.Errorf("%s%s: %w", file, suffix, err)
		}
		out[file+suffix] = text
	}
	return nil
}
