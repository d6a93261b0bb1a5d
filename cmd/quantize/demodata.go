package main

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quantize/internal/atomicfile"
)

// demoFiles is the embedded model with its texts and budgets (demo/README.md).
//
//go:embed demo/model demo/calibration.txt demo/evaluation.txt demo/gate.yaml
var demoFiles embed.FS

// unpackDemo writes the model to dir/base, the texts and budgets to dir, over what an
// earlier demo left there.
func unpackDemo(dir string) error {
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
