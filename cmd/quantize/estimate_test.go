package main

import (
	"io"
	"path/filepath"
	"testing"

	"quantize/packer"
	"quantize/recipe"
)

// A bound on hidden states takes from the estimate what it keeps out of memory, and
// one that they fit takes nothing.
func TestPlanCountsMemoryCap(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "m")
	writeTiny(t, dir, 1)
	l, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for _, name := range []string{"rtn", "gptq", "best"} {
		r, err := recipe.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		ram := func(memory int64) int64 { return (&estimate{l.config, r, &packer.Preview{}, memory}).peakRAM() }
		free, wide, narrow := ram(0), ram(1<<40), ram(1<<10)
		if wide != free || (narrow < free) != r.Calibrated() {
			t.Errorf("%s: %d without a bound, %d with a wide one, %d with a narrow one", name, free, wide, narrow)
		}
	}
}

// The size that plan foretells is that of the output, to the byte, scales of an FP8 cache
// included: of the embedded demo, by recipes with and without such scales.
func TestPlanCountsCacheScales(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "base")
	for name, text := range map[string]string{
		"none": "{name: x, scheme: W4A8_FP8, weights: {rounding: rtn}}",
		"fp8":  "{name: x, scheme: W4A8_FP8, weights: {rounding: rtn}, kv: {format: fp8}, calibration: {samples: 2, window: 64, seed: 1}}",
		"rope": "{name: x, scheme: FP8_DYNAMIC, weights: {rounding: rtn}, rope: {method: fireq, alpha: 8, exponent: 1}, kv: {format: fp8}, calibration: {samples: 2, window: 64, seed: 1}}",
		"int4": "{name: x, scheme: W4A8_FP8, weights: {rounding: rtn}, kv: {format: int4, group_size: 32, smooth: true}, calibration: {samples: 2, window: 64, seed: 1}}",
	} {
		r, err := recipe.Decode(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		want, err := plan(base, r, 0)
		if err != nil {
			t.Fatal(err)
		}
		j := job{model: base, out: filepath.Join(dir, name), recipe: r}
		if r.Calibrated() {
			j.calib = []string{filepath.Join(dir, "calibration.txt")}
		}
		got, err := (&env{out: io.Discard, err: io.Discard}).quantize(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		l, err := load(j.out)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if written := l.tensorBytes(); want.BytesOut != written || got.BytesOut != written {
			t.Errorf("%s: plan has %d bytes, run %d, the output %d", name, want.BytesOut, got.BytesOut, written)
		}
	}
}

// Each stage that goes over the text is counted: of sage the cache too, of best the ranges of
// rotary pairs.
func TestPlanCountsPasses(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"rtn": 0, "rtn-weighted": 1, "sage": 2, "awq": 2, "gptq": 2, "best": 5} {
		r, err := recipe.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&estimate{recipe: r}).passes(); got != want {
			t.Errorf("%s: %d passes, want %d", name, got, want)
		}
	}
}
