package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/tensor"
)

// randomScale is the standard deviation of random weights, that of many initialisations.
const randomScale = 0.02

// fillRandom gives what hollow wrote in dir for cfg, one shard of BF16 tensors, normal random
// weights, norms of ones, and the demo's tokenizer.
func fillRandom(ctx context.Context, dir string, cfg *model.Config, seed uint64) error {
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		data, err := demoFiles.ReadFile("demo/model/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return errors.Join(checkpoint.ErrOutput, err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "model.safetensors"), os.O_RDWR, 0)
	if err != nil {
		return errors.Join(checkpoint.ErrOutput, err)
	}
	if err := errors.Join(writeRandom(ctx, f, cfg, seed), f.Close()); err != nil {
		return errors.Join(checkpoint.ErrOutput, err)
	}
	return nil
}

// writeRandom writes every tensor's data at its place. A random number is 16 bits that
// choose from a table of as many normal ones: the disk, not the generator, is what takes
// time.
func writeRandom(ctx context.Context, f *os.File, cfg *model.Config, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 8))
	var table [1 << 16]uint16
	for i := range table {
		table[i] = tensor.BF16Bits(float32(randomScale * random.NormFloat64()))
	}
	one := tensor.BF16Bits(1)
	var head [8]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return err
	}
	start := 8 + int64(binary.LittleEndian.Uint64(head[:]))
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for _, t := range model.Tensors(cfg) { // in the order of hollow
		if err := ctx.Err(); err != nil {
			return err
		}
		norm := strings.HasSuffix(t.Name, "norm.weight")
		var four [8]byte
		for range t.Bytes() / 8 {
			bits := random.Uint64()
			for i := range 4 {
				v := table[bits>>(16*i)&0xFFFF]
				if norm {
					v = one
				}
				binary.LittleEndian.PutUint16(four[2*i:], v)
			}
			if _, err := w.Write(four[:]); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}
