package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
	"quantize/model"
)

// llama8B is config.json of a model with the sizes of Llama-3.1-8B.
const llama8B = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
  "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"
}
`

// newTestdataCommand is for trying plan on a large model without having one.
func newTestdataCommand(e *env) *cobra.Command {
	out := ""
	c := &cobra.Command{
		Use:    "testdata -o DIR",
		Short:  "Write a checkpoint with the sizes of an 8B model and no contents",
		Long:   "Write a checkpoint with the sizes of an 8B Llama to DIR, which must not exist. Its weights are holes: zeros that take no disk.",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			n, err := hollow(out, llama8B)
			if err != nil {
				return err
			}
			return e.print(map[string]any{"output": out, "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s of zeros\n", out, size(n)) })
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "output directory (required)")
	if err := c.MarkFlagRequired("out"); err != nil {
		panic("quantize: testdata has no flag out")
	}
	return c
}

// hollow writes a checkpoint of the model that config describes, one shard with a
// hole for data, and returns the size of the data. (The checkpoint package's writer
// reserves the space that it will write.)
func hollow(dir, config string) (int64, error) {
	cfg, err := model.ParseConfig([]byte(config))
	if err != nil {
		return 0, err
	}
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var at int64
	for _, t := range model.Tensors(cfg) {
		header[t.Name] = map[string]any{"dtype": t.DType.String(), "shape": t.Shape, "data_offsets": []int64{at, at + t.Bytes()}}
		at += t.Bytes()
	}
	text, err := json.Marshal(header)
	if err != nil {
		return 0, err
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	head := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, errors.Join(checkpoint.ErrOutput, err)
	}
	write := func(name string, data []byte, size int64) error {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		return os.Truncate(path, size)
	}
	if err := errors.Join(write("config.json", []byte(config), int64(len(config))), write("model.safetensors", head, int64(len(head))+at)); err != nil {
		return 0, errors.Join(checkpoint.ErrOutput, err)
	}
	return at, nil
}
