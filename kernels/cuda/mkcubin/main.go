// Command mkcubin compiles kernels/cuda/src/*.cu to cubins and writes the
// manifest: what was compiled, with what, into which bytes.
//
//	go run ./kernels/cuda/mkcubin -nvcc PATH [-check]
//
// With -check nothing is written: it fails when the cubins in the repository are
// not what the compiler makes of the sources.
package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"quantize/kernels/cuda"
)

// flags are all that the compiler is given beside file names.
var flags = []string{"-std=c++17", "-O3", "-gencode=arch=compute_90a,code=sm_90a", "-cubin"}

func main() {
	nvcc := flag.String("nvcc", "nvcc", "the compiler")
	dir := flag.String("dir", "kernels/cuda", "the package's directory")
	check := flag.Bool("check", false, "compare with the repository and write nothing")
	flag.Parse()
	if err := run(*nvcc, *dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "mkcubin:", err)
		os.Exit(1)
	}
}

func run(nvcc, dir string, check bool) error {
	manifest := cuda.Manifest{Flags: flags}
	nvcc, err := exec.LookPath(nvcc)
	if err != nil {
		return err
	}
	if nvcc, err = filepath.Abs(nvcc); err != nil { // it runs in another directory
		return err
	}
	if manifest.Toolkit, err = toolkit(nvcc); err != nil {
		return err
	}
	if manifest.Sources, err = cuda.HashSources(os.DirFS(dir)); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "src", "*.cu"))
	if err != nil {
		return err
	}
	images := make([][]byte, len(files))
	usage := make([]map[string]cuda.Kernel, len(files))
	errs := make([]error, len(files))
	var group sync.WaitGroup
	for i, file := range files {
		group.Go(func() { images[i], usage[i], errs[i] = compile(nvcc, file) })
	}
	group.Wait()
	for i, file := range files {
		if errs[i] != nil {
			return errs[i]
		}
		name := strings.TrimSuffix(filepath.Base(file), ".cu") + ".cubin"
		c := cuda.Cubin{File: name, SHA256: cuda.Hash(images[i])}
		if c.Kernels, err = kernelsOf(images[i], usage[i]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		manifest.Cubins = append(manifest.Cubins, c)
		if err := put(filepath.Join(dir, "cubin", name), images[i], check); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(manifest, "", " ")
	if err != nil {
		return err
	}
	return put(filepath.Join(dir, "cubin", "manifest.json"), append(text, '\n'), check)
}

func put(file string, data []byte, check bool) error {
	if !check {
		return os.WriteFile(file, data, 0o644)
	}
	old, err := os.ReadFile(file)
	if err == nil && !bytes.Equal(old, data) {
		err = fmt.Errorf("%s is not what the sources compile to; run `make kernels`", file)
	}
	return err
}

// toolkit is the compiler's release, "13.0.88".
func toolkit(nvcc string) (string, error) {
	out, err := exec.Command(nvcc, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", nvcc, err)
	}
	_, rest, ok := strings.Cut(string(out), ", V")
	version, _, _ := strings.Cut(rest, "\n")
	if !ok {
		return "", fmt.Errorf("%s --version does not tell a version", nvcc)
	}
	return strings.TrimSpace(version), nil
}

// compile runs in the source's directory, so that no path of this machine
// reaches the bytes. It returns the cubin and what each kernel uses.
func compile(nvcc, file string) ([]byte, map[string]cuda.Kernel, error) {
	out, err := os.CreateTemp("", "*.cubin")
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(out.Name())
	if err := out.Close(); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(nvcc, append(slices.Clone(flags), "-Xptxas", "-v", "-o", out.Name(), filepath.Base(file))...)
	cmd.Dir = filepath.Dir(file)
	log, err := cmd.CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w\n%s", file, err, log)
	}
	image, err := os.ReadFile(out.Name())
	return image, resources(file, string(log)), err
}

var (
	entry     = regexp.MustCompile(`entry function '(\w+)'`)
	spills    = regexp.MustCompile(`(\d+) bytes spill stores`)
	registers = regexp.MustCompile(`Used (\d+) registers`)
)

// resources reads what ptxas -v tells of each kernel.
func resources(file, log string) map[string]cuda.Kernel {
	all := map[string]cuda.Kernel{}
	var k cuda.Kernel
	for line := range strings.Lines(log) {
		if m := entry.FindStringSubmatch(line); m != nil {
			k = cuda.Kernel{Name: m[1]}
		} else if m := spills.FindStringSubmatch(line); m != nil {
			k.SpillBytes, _ = strconv.Atoi(m[1])
		} else if m := registers.FindStringSubmatch(line); m != nil {
			k.Registers, _ = strconv.Atoi(m[1])
			all[k.Name] = k
		} else if strings.Contains(line, "serialized") { // wgmmas that wait for each other
			fmt.Fprintf(os.Stderr, "%s: %s", file, line)
		}
	}
	return all
}

// kernelsOf lists the kernels of a cubin with what they use, and the shapes of the
// GEMMs (gemm.cuh).
func kernelsOf(image []byte, usage map[string]cuda.Kernel) ([]cuda.Kernel, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	shapes := map[string][]int{}
	for _, s := range symbols {
		name, ok := strings.CutSuffix(s.Name, "_shape")
		if !ok || int(s.Section) >= len(f.Sections) {
			continue
		}
		data, err := f.Sections[s.Section].Data()
		if err != nil {
			return nil, err
		}
		for i := s.Value; i < s.Value+s.Size; i += 4 {
			shapes[name] = append(shapes[name], int(binary.LittleEndian.Uint32(data[i:])))
		}
	}
	var kernels []cuda.Kernel
	for _, section := range f.Sections {
		name, ok := strings.CutPrefix(section.Name, ".text.")
		if !ok {
			continue
		}
		k := usage[name]
		if s := shapes[name]; s != nil {
			k.Threads, k.SharedBytes, k.Tokens, k.Channels, k.Cluster = s[0], s[1], s[2], s[3], s[4]
		}
		kernels = append(kernels, k)
	}
	slices.SortFunc(kernels, func(a, b cuda.Kernel) int { return strings.Compare(a.Name, b.Name) })
	return kernels, nil
}
