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
		ctx := build.NewContext()
		ctx.ConstraintExpr("!noasm")
		for rows := 1; rows <= s.rows; rows++ {
			tile(ctx, s, rows)
		}
		vectorFuncs(ctx, s)
		f, err := ctx.Result()
		if err != nil {
			return nil, err
		}
		if err := pass.Compile.Execute(f); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		cfg := printer.Config{Name: "gen", Argv: []string{"go", "generate"}, Pkg: "cpu"}
		for suffix, p := range map[string]printer.Printer{
			"_amd64.s":  printer.NewGoAsm(cfg),
			"_amd64.go": printer.NewStubs(cfg),
		} {
			text, err := p.Print(f)
			if err != nil {
				return nil, fmt.Errorf("%s%s: %w", s.file, suffix, err)
			}
			out[s.file+suffix] = text
		}
	}
	return out, nil
}
