package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// generate returns the generated files by name: the assembly and the Go
// declarations that belong to it.
func generate() (map[string][]byte, error) {
	g := &generator{build.NewContext()}
	g.ConstraintExpr("!noasm")
	g.decoders()
	g.encoders()
	f, err := g.Result()
	if err != nil {
		return nil, err
	}
	if err := pass.Compile.Execute(f); err != nil {
		return nil, err
	}
	cfg := printer.Config{Name: "gen", Argv: []string{"go", "generate"}, Pkg: "tensor"}
	out := map[string][]byte{}
	for name, p := range map[string]printer.Printer{
		"codecs_avx2_amd64.s":  printer.NewGoAsm(cfg),
		"codecs_avx2_amd64.go": printer.NewStubs(cfg),
	} {
		if out[name], err = p.Print(f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}
