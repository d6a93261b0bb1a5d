package cuda

import (
	"crypto/sha256"
	_ "embed" // the manifest
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"path"
	"slices"
)

// Manifest records how the cubins were made (make kernels).
type Manifest struct {
	Toolkit string   `json:"toolkit"` // of nvcc
	Flags   []string `json:"flags"`
	Sources []Source `json:"sources"`
	Cubins  []Cubin  `json:"cubins"`
}

// Source is a file of src.
type Source struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// Cubin is a file of cubin.
type Cubin struct {
	File    string   `json:"file"`
	SHA256  string   `json:"sha256"`
	Kernels []Kernel `json:"kernels"`
}

// Kernel is an entry of a cubin. The shape, after SpillBytes, is a GEMM's alone.
type Kernel struct {
	Name        string `json:"name"`
	Registers   int    `json:"registers"` // before warpgroups hand some over
	SpillBytes  int    `json:"spill_bytes,omitempty"`
	Threads     int    `json:"threads,omitempty"` // of a block
	SharedBytes int    `json:"shared_bytes,omitempty"`
	Tokens      int    `json:"tokens,omitempty"`   // of a tile
	Channels    int    `json:"channels,omitempty"` // of a block, or of a cluster that shares its tokens
	Cluster     int    `json:"cluster,omitempty"`  // blocks that share their tokens
}

//go:embed cubin/manifest.json
var manifestJSON []byte

// BuiltKernels returns the manifest of the cubins in this binary.
func BuiltKernels() Manifest {
	var m Manifest
	if err := json.Unmarshal(manifestJSON, &m); err != nil {
		panic("cuda: the embedded manifest does not parse")
	}
	return m
}

// gemm returns the kernel of that name, if it is a GEMM.
func (m *Manifest) gemm(name string) (Kernel, bool) {
	for _, c := range m.Cubins {
		for _, k := range c.Kernels {
			if k.Name == name && k.Threads > 0 {
				return k, true
			}
		}
	}
	return Kernel{}, false
}

// Hash is the SHA-256 of data in hexadecimal.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// HashSources hashes the kernel sources of dir, this package's directory, in
// the order of their names.
func HashSources(dir fs.FS) ([]Source, error) {
	var sources []Source
	for _, pattern := range []string{"src/*.cu", "src/*.cuh"} {
		files, err := fs.Glob(dir, pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := fs.ReadFile(dir, file)
			if err != nil {
				return nil, err
			}
			sources = append(sources, Source{File: path.Base(file), SHA256: Hash(data)})
		}
	}
	slices.SortFunc(sources, func(a, b Source) int {
		if a.File < b.File {
			return -1
		}
		return 1
	})
	return sources, nil
}
