// Command mkcaptured runs a full-precision checkpoint over the beginning of a text, on the
// CPU, and writes what its layers attend with (package captured).
//
//	go run ./kernels/cuda/mkcaptured -text FILE -tokens 512 MODEL > captured.bin
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"quantize/checkpoint"
	"quantize/kernels/cpu"
	"quantize/kernels/cuda/captured"
	"quantize/model"
	"quantize/model/tokenizer"
	"quantize/tensor"
)

func main() {
	text := flag.String("text", "", "UTF-8 text")
	tokens := flag.Int("tokens", 512, "of the text's beginning")
	flag.Parse()
	if flag.NArg() != 1 || *text == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *text, *tokens); err != nil {
		fmt.Fprintln(os.Stderr, "mkcaptured:", err)
		os.Exit(1)
	}
}

func run(dir, file string, tokens int) (err error) {
	r, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		return err
	}
	compute := cpu.New()
	m, err := model.New(c, model.FromCheckpoint(r, compute), compute)
	if err != nil {
		return err
	}
	ids, err := encode(dir, file, tokens)
	if err != nil {
		return err
	}
	layers := make([]captured.Layer, c.Layers)
	observe := func(s model.Site, x tensor.Matrix) {
		l := &layers[s.Layer]
		switch s.Point {
		case model.QPost:
			l.Q = clone(x)
		case model.KPost:
			l.K = clone(x)
		case model.V:
			l.V = clone(x)
		default: // not an operand of the attention
		}
	}
	if _, err := m.Stream(context.Background(), [][]int32{ids}, model.StreamOptions{Observe: observe}); err != nil {
		return err
	}
	h := captured.Header{Layers: c.Layers, Tokens: tokens, Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim}
	return captured.Write(os.Stdout, h, layers)
}

// encode gives the first tokens of the text.
func encode(dir, file string, tokens int) ([]int32, error) {
	t, err := tokenizer.Load(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ids, err := t.Encode(string(text[:min(len(text), 32*tokens)]), true)
	if err != nil {
		return nil, err
	}
	if len(ids) < tokens {
		return nil, fmt.Errorf("%s has %d tokens, wanted %d", file, len(ids), tokens)
	}
	return ids[:tokens], nil
}

func clone(x tensor.Matrix) tensor.Matrix {
	y := tensor.NewMatrix(x.Rows, x.Cols)
	for i := range x.Rows {
		copy(y.Row(i), x.Row(i))
	}
	return y
}
