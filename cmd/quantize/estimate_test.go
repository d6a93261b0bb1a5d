package main

import (
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
