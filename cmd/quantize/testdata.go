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

// llama8B is config.json of a model with the sizes of Llama-3.1-8B and so many layers.
const llama8B = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": %d, "num_attention_heads": 32,
  "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"
}
`

// newTestdataCommand is for trying plan and run on a large model without having one.
func newTestdataCommand(e *env) *cobra.Command {
	out, layers, seed := "", 0, uint64(0)
	c := &cobra.Command{
		Use:   "testdata -o DIR",
		Short: "Write a checkpoint with the sizes of an 8B model and no contents",
		Long: `Write a checkpoint with the sizes of an 8B Llama to DIR, which must not exist. Its weights
are holes: zeros that take no disk. With --random they are normal random numbers, 16 GB of
them with all layers, and the demo's tokenizer stands beside them: run takes that.`,
		Args:   noArgs,
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			config := fmt.Sprintf(llama8B, layers)
			cfg, err := model.ParseConfig([]byte(config))
			if err != nil {
				return err
			}
			n, err := hollow(out, config, cfg)
			if err != nil {
				return err
			}
			what := "zeros"
			if c.Flags().Changed("random") {
				what = "random numbers"
				if err := fillRandom(c.Context(), out, cfg, seed); err != nil {
					return err
				}
			}
			return e.print(map[string]any{"output": out, "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s of %s\n", out, size(n), what) })
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "output directory (required)")
	c.Flags().IntVar(&layers, "layers", 32, "number of layers")
	c.Flags().Uint64Var(&seed, "random", 0, "random weights, of this seed")
	if err := c.MarkFlagRequired("out"); err != nil {
		panic("quantize: testdata has no flag out")
	}
	return c
}

// hollow writes a checkpoint of the model that config.json describes, cfg when parsed: one
// shard with a hole for data. It returns the size of the data. (The checkpoint package's writer
// reserves the space that it will write.)
func hollow(dir, config string, cfg *model.Config) (int64, error) {
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
