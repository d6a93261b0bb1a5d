package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quantize/packer"
)

// Two texts of four tokens leave some of eight experts out.
const fewTokens = `
calibration: {samples: 2, window: 4, seed: 1}
ignore: [lm_head]
`

// Recipes whose counts of tokens come from each of the three places that count them:
// the rounding of GPTQ, the pass of smoothing, and the pass of importance.
var expertRecipes = map[string]string{
	"gptq":     "name: gptq\nscheme: W4A8_FP8\nweights: {rounding: gptq, target: full-precision, importance: activations}" + fewTokens,
	"gptq8":    "name: gptq8\nscheme: FP8_DYNAMIC\nweights: {rounding: gptq, target: full-precision}" + fewTokens,
	"smoothed": "name: smoothed\nscheme: W4A8_FP8\nsmoothing: {method: awq}\nweights: {rounding: rtn}" + fewTokens,
	"weighted": "name: weighted\nscheme: W4A8_FP8\nweights: {rounding: rtn, importance: activations}" + fewTokens,
}

// A run of a mixture of experts that goes on from any of its blocks gives the bytes
// of an unbroken one, the manifest's tokens, fallbacks and calibration among them.
func TestExpertsResume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model, text := filepath.Join(dir, "m"), filepath.Join(dir, "text.txt")
	shape := expertsShape("qwen3_moe", 3)
	shape.Hidden, shape.Heads, shape.KVHeads, shape.Config["moe_intermediate_size"] = 128, 2, 1, 128 // what takes less time
	if err := writeModel(model, shape); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("It was the best of times, it was the worst of times, it was the age of wisdom."), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(expertRecipes)) {
		recipe, whole := filepath.Join(dir, name+".yaml"), filepath.Join(dir, name)
		if err := os.WriteFile(recipe, []byte(expertRecipes[name]), 0o644); err != nil {
			t.Fatal(err)
		}
		args := func(out string) []string {
			return []string{"run", model, "-o", out, "--recipe", recipe, "--calib", text}
		}
		unbroken := complete(t, args(whole)...)
		manifest, err := packer.ReadManifest(whole)
		if err != nil {
			t.Fatal(err)
		}
		if len(unbroken.Experts) != 2 || unbroken.Experts[0].Unreached == 0 || manifest.Calibration == nil || manifest.Calibration.Tokens != 8 {
			t.Fatalf("%s: experts %+v, calibration %+v", name, unbroken.Experts, manifest.Calibration)
		}
		unfinished(t, job{model: model, out: filepath.Join(dir, "ended"), calib: []string{text}}, recipe)
		// lost are the parts that the run did not come to make.
		for i, lost := range [][]string{{}, {"block-0002*"}, {"block-0001*", "block-0002*", "stream*"}, {"block-0001*"}} {
			out := filepath.Join(dir, fmt.Sprintf("%s%d", name, i))
			journal := filepath.Join(dir, fmt.Sprintf(".%s%d.quantize", name, i))
			if err := os.CopyFS(journal, os.DirFS(filepath.Join(dir, ".ended.quantize"))); err != nil {
				t.Fatal(err)
			}
			for _, pattern := range lost {
				parts, err := filepath.Glob(filepath.Join(journal, pattern))
				if err != nil {
					t.Fatal(err)
				}
				for _, part := range parts {
					if err := os.Remove(part); err != nil {
						t.Fatal(err)
					}
				}
			}
			blocks, _ := finished(journal)
			resumed := complete(t, append(args(out), "--memory", "3kB")...)
			if resumed.Resumed != blocks || blocks == 0 {
				t.Errorf("%s without %q: %d of %d blocks were taken", name, lost, resumed.Resumed, blocks)
			}
			if !slices.EqualFunc(resumed.Experts, unbroken.Experts, func(a, b packer.ExpertCoverage) bool { return slices.Equal(a.Tokens, b.Tokens) }) {
				t.Errorf("%s without %q: coverage %+v, want %+v", name, lost, resumed.Experts, unbroken.Experts)
			}
			if !slices.Equal(resumed.Fallbacks, unbroken.Fallbacks) {
				t.Errorf("%s without %q: fallbacks %+v, want %+v", name, lost, resumed.Fallbacks, unbroken.Fallbacks)
			}
			if !maps.Equal(sums(t, out), sums(t, whole)) {
				t.Errorf("%s without %q: other bytes", name, lost)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, ".ended.quantize")); err != nil {
			t.Fatal(err)
		}
	}
}
