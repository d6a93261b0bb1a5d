// Command plain writes a quantized checkpoint of any of our formats as a
// full-precision one: code times scale in FP32, read from the bytes by package
// format. `quantize eval` and TestInterop then run what those bytes mean.
//
//	go run ./testdata/interop/plain CHECKPOINT OUT
package main

import (
	"errors"
	"fmt"
	"os"

	"quantize/checkpoint"
	"quantize/packer"
	"quantize/packer/format"
	"quantize/tensor"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plain CHECKPOINT OUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}

func run(dir, out string) (err error) {
	r, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := format.Open(r)
	if err != nil {
		return err
	}
	replaced := map[string]bool{}
	var tensors []checkpoint.Info
	for _, l := range s.Quantized {
		for _, f := range s.Format.Fields(l.N, l.K) {
			replaced[l.Name+f.Suffix] = true
		}
		tensors = append(tensors, checkpoint.Info{Name: l.Name + ".weight", DType: tensor.F32, Shape: []int{l.N, l.K}})
	}
	var kept []string
	for _, name := range r.Names() {
		if replaced[name] {
			continue
		}
		info, err := r.Info(name)
		if err != nil {
			return err
		}
		kept, tensors = append(kept, name), append(tensors, info)
	}
	w, err := checkpoint.Create(out, tensors, checkpoint.WriterOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Abort()) }() // nothing after Commit
	for _, name := range kept {
		if err := w.Copy(r, name); err != nil {
			return err
		}
	}
	for _, l := range s.Quantized {
		if err := decode(w, s, l); err != nil {
			return err
		}
	}
	return files(w, r)
}

func decode(w *checkpoint.Writer, s *format.Source, l packer.LinearShape) error {
	weight, err := s.Read(l)
	if err != nil {
		return err
	}
	m := tensor.NewMatrix(l.N, l.K)
	weight.Decode(m, packer.WeightOnly)
	raw := make([]byte, 4*len(m.Data))
	if err := tensor.Encode(raw, m.Data, tensor.F32); err != nil {
		return err
	}
	return w.Add(l.Name+".weight", raw)
}

// files adds the configuration, without quantization, and the tokenizer.
func files(w *checkpoint.Writer, r *checkpoint.Reader) error {
	config, err := packer.ReplaceQuantizationConfig(r.ConfigJSON(), nil)
	if err != nil {
		return err
	}
	if err := w.File("config.json", config); err != nil {
		return err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		if _, err := w.CopyFile(r, name); err != nil {
			return err
		}
	}
	return w.Commit()
}
