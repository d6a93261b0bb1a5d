package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quantize/packer"
)

// asProgram makes the test binary the program.
const asProgram = "QUANTIZE_TEST_AS_PROGRAM"

// What `make kill-series` sets.
var (
	killModel  = flag.String("kill-model", "", "checkpoint of the kill series; empty: the embedded model")
	killRecipe = flag.String("kill-recipe", "", "its recipe; empty: a short series of several")
	killCalib  = flag.String("kill-calib", "", "its calibration text; empty: that of the embedded model")
	killCount  = flag.Int("kills", 3, "how many times it is killed")
	killSeed   = flag.Uint64("kill-seed", 1, "of the moments")
)

// The two have every kind of part in a journal: moments, scales, residual streams,
// slices of embedding and head; clips and statistics.
const sequentialRecipe = `name: sequential
scheme: W4A8_FP8
rotation: {residual: pca-hadamard, values: pca, seed: 1}
smoothing: {method: awq}
weights: {rounding: gptq, target: full-precision, importance: activations}
calibration: {samples: 2, window: 32, seed: 1}
ignore: [lm_head]
`

const clippedRecipe = `name: clipped
scheme: W4A16
rope: {method: fireq, alpha: 0.5, exponent: 0.5}
kv: {format: int4, group_size: 32, smooth: true}
smoothing: {method: awq, clip: true}
weights: {search: false}
calibration: {samples: 2, window: 32, seed: 1}
ignore: [lm_head]
`

// TestKillSeries kills runs at random moments and lets the next run go on: the
// output must be that of a run that nobody killed, and every block that was
// finished must be taken and not made again. The long series is
//
//	make kill-series MODEL=DIR RECIPE=rtn KILLS=50
func TestKillSeries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	calib := cmp.Or(*killCalib, filepath.Join(dir, "calibration.txt"))
	if *killRecipe != "" {
		killSeries(t, cmp.Or(*killModel, filepath.Join(dir, "base")), *killRecipe, calib, *killCount)
		return
	}
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		killSeries(t, filepath.Join(dir, "base"), "rtn", calib, *killCount)
	})
	model := filepath.Join(dir, "tiny")
	writeTiny(t, model, 4)
	for name, text := range map[string]string{"sequential": sequentialRecipe, "clipped": clippedRecipe} {
		recipe := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killSeries(t, model, recipe, calib, *killCount)
		})
	}
}

// writeTiny writes a random Llama.
func writeTiny(t *testing.T, dir string, layers int) {
	t.Helper()
	if err := writeModel(dir, tinyShape(layers)); err != nil {
		t.Fatal(err)
	}
}

// programCommand is a command line of this program in a process of its own.
func programCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], append([]string{"--output", "json"}, args...)...)
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

// complete runs the program to its end.
func complete(t *testing.T, args ...string) runResult {
	t.Helper()
	c := programCommand(t, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	var res runResult
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatal(err)
	}
	return res
}

func killSeries(t *testing.T, model, recipe, calib string, kills int) {
	dir := t.TempDir()
	args := func(out string) []string {
		return []string{"run", model, "-o", out, "--recipe", recipe, "--calib", calib}
	}
	start := time.Now()
	whole := filepath.Join(dir, "whole")
	complete(t, args(whole)...)
	took := time.Since(start)
	want := sums(t, whole)
	t.Logf("unbroken: %v, %d files", took.Round(time.Millisecond), len(want))
	t.Logf("%4s %10s %8s %6s %8s %10s %5s", "kill", "after", "blocks", "parts", "resumed", "made again", "same")

	random := rand.New(rand.NewPCG(*killSeed, 0))
	cut := 0
	for i := range kills {
		out := filepath.Join(dir, fmt.Sprintf("out%d", i))
		journal := filepath.Join(dir, fmt.Sprintf(".out%d.quantize", i))
		c := programCommand(t, args(out)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		start, after := time.Now(), time.Duration(random.Float64()*float64(took))
		parts := 1 + random.IntN(4)
		for time.Since(start) < after {
			// On a busy machine time alone would often miss the blocks.
			if _, n := finished(journal); i%2 == 1 && n >= parts {
				break
			}
			time.Sleep(time.Millisecond)
		}
		after = time.Since(start)
		if err := c.Process.Kill(); err != nil {
			t.Logf("%4d %10v finished before", i, after.Round(time.Millisecond))
		}
		_ = c.Wait() // killed
		blocks, all := finished(journal)
		resumed := blocks
		_, err := os.Stat(out)
		cutHere := err != nil // else the kill came after the rename
		if cutHere {
			cut++
			resumed = complete(t, args(out)...).Resumed
		}
		same := maps.Equal(want, sums(t, out))
		t.Logf("%4d %10v %8d %6d %8d %10d %5v", i, after.Round(time.Millisecond), blocks, all-blocks, resumed, blocks-resumed, same)
		if !same || resumed != blocks {
			t.Errorf("kill %d: other bytes, or finished blocks made again", i)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".out*")); err != nil || cutHere && len(left) > 0 {
			t.Errorf("kill %d: %q is left, %v", i, left, err)
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d kills came before the output was complete", cut, kills)
	if cut == 0 {
		t.Error("no kill came before the output was complete: nothing was resumed")
	}
}

// finished counts the blocks in a journal, and all its parts.
func finished(journal string) (blocks, parts int) {
	entries, _ := os.ReadDir(journal) // there is none before the start and after the end
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, packer.BlockPart) {
			blocks++
		}
		if name != "lock" && name != "inputs.json" && name[0] != '.' {
			parts++
		}
	}
	return blocks, parts
}

// sums gives the SHA-256 of every file.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		out[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
