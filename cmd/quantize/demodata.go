package main

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quantize/checkpoint"
	"quantize/internal/atomicfile"
	"quantize/internal/fault"
)

// demoFiles is the embedded model with its texts and budgets (demo/README.md).
//
//go:embed demo/model demo/calibration.txt demo/evaluation.txt demo/gate.yaml
var demoFiles embed.FS

// unpackDemo writes the model to dir/base, the texts and budgets to dir, over what an
// earlier demo left there.
func unpackDemo(dir string) error {
	base := filepath.Join(dir, "base")
	if target, err := os.Readlink(base); err == nil {
		return &fault.Error{
			Err: checkpoint.ErrOutput, Where: base, Found: "a symbolic link to " + target, Wanted: "a directory of the demo's own",
			Hint: "what the link leads to may be somebody's checkpoint: remove the link, or name another directory with -o",
		}
	}
	return fs.WalkDir(demoFiles, "demo", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "demo")
		if rest, ok := strings.CutPrefix(name, "/model"); ok {
			name = "/base" + rest
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			if err := os.MkdirAll(to, 0o755); err != nil {
				return outputFault(to, err)
			}
			return nil
		}
		data, err := demoFiles.ReadFile(path)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(to, data); err != nil {
			return outputFault(to, err)
		}
		return nil
	})
}
