package main

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"

	"quantize/internal/atomicfile"
)

// demoFiles is the embedded model with its texts (demo/README.md).
//
//go:embed demo/model demo/calibration.txt demo/evaluation.txt
var demoFiles embed.FS

// unpackDemo writes the model to dir/base and the texts to dir; what is there
// already and equal is left, anything else at these names is replaced.
func unpackDemo(dir string) error {
	return fs.WalkDir(demoFiles, "demo", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("demo", path)
		if err != nil {
			return err
		}
		if rest, ok := under(rel, "model"); ok {
			rel = filepath.Join("base", rest)
		}
		to := filepath.Join(dir, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := demoFiles.ReadFile(path)
		if err != nil {
			return err
		}
		return atomicfile.Write(to, data)
	})
}

// under reports whether rel is folder or inside it, and where.
func under(rel, folder string) (string, bool) {
	rest, err := filepath.Rel(folder, rel)
	if err != nil || rest == ".." || len(rest) > 2 && rest[:3] == ".."+string(filepath.Separator) {
		return "", false
	}
	return rest, true
}
