// Command decoded prints the sha256 of every quantized weight of a checkpoint,
// decoded to FP32 as transformers decodes it (code times stored scale), one
// JSON object of module names. testdata/interop/load.py compares them.
//
//	go run ./testdata/interop/decoded OUT > decoded.json
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: decoded OUT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "decoded:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	r, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		return err
	}
	q, err := packer.ParseQuantizationConfig(r.ConfigJSON())
	if err != nil {
		return err
	}
	sums := map[string]string{}
	for _, e := range model.Tensors(cfg) {
		if e.Kind != model.KindLinear {
			continue
		}
		w, err := packer.ReadWeight(r, e.Module, q)
		if err != nil {
			return err
		}
		if w == nil {
			continue
		}
		m := tensor.NewMatrix(w.Shape())
		w.Decode(m, packer.WeightOnly)
		raw := make([]byte, 4*len(m.Data))
		if err := tensor.Encode(raw, m.Data, tensor.F32); err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		sums[e.Module] = hex.EncodeToString(sum[:])
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(sums)
}
