package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"quantize/kernels/cpu"
	"quantize/packer"
)

// contentSum is the sha256 of all of the checkpoint that decides what it
// computes: configuration, tensors, and the sidecar of the work between them.
// How the tensors are cut into shards is not in it.
func (l *loaded) contentSum(ctx context.Context) (string, error) {
	h := sha256.New()
	begin := func(name string, size int64) { // lengths keep two parts from reading as one
		fmt.Fprintf(h, "%d %s %d\n", len(name), name, size)
	}
	part := func(name string, data []byte) {
		begin(name, int64(len(data)))
		h.Write(data)
	}
	part("config", l.reader.ConfigJSON())
	sidecar, err := os.ReadFile(filepath.Join(l.reader.Dir(), filepath.FromSlash(packer.SidecarPath)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	part("sidecar", sidecar)
	for _, name := range l.reader.Names() {
		info, err := l.reader.Info(name)
		if err != nil {
			return "", err
		}
		begin(fmt.Sprintf("%s %s %v", name, info.DType, info.Shape), info.Bytes())
		if err := l.reader.Copy(ctx, h, name); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// resultID names what decides the bits of a result: the content, the instruction
// set, and this program.
func resultID(contentSum string, compute *cpu.Compute) (string, error) {
	program, err := programSum()
	return fmt.Sprintf("%s %s %s", contentSum, compute.ISA(), program), err
}
