//go:build !race

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A run stays within the memory that plan announces for it. (The race detector takes
// memory of its own.)
func TestRunKeepsToWhatPlanAnnounces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	base, text := filepath.Join(dir, "base"), filepath.Join(dir, "calibration.txt")
	gptq := filepath.Join(dir, "gptq.yaml")
	const few = "name: few\nscheme: W4A8_FP8\nweights: {rounding: gptq}\ncalibration: {samples: 16, window: 512, seed: 1}\n"
	if err := os.WriteFile(gptq, []byte(few), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{
		{"--recipe", "rtn"},
		{"--recipe", "rtn-weighted"},
		{"--recipe", "rtn-weighted", "--memory", "1MB"},
		{"--recipe", gptq},
	} {
		out, err := programCommand(t, append([]string{"plan", base}, flags...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		var plan struct {
			PeakRAM int64 `json:"peak_ram_bytes"`
		}
		if err := json.Unmarshal(out, &plan); err != nil {
			t.Fatal(err)
		}
		got := complete(t, append([]string{"run", base, "-o", filepath.Join(t.TempDir(), "out"), "--calib", text}, flags...)...)
		if got.PeakRSS == 0 {
			t.Skip("this system does not tell the peak")
		}
		t.Logf("%v: %.1f MB of %.1f MB", flags, float64(got.PeakRSS)/1e6, float64(plan.PeakRAM)/1e6)
		if got.PeakRSS > plan.PeakRAM {
			t.Errorf("%v: peak %d, plan announced %d", flags, got.PeakRSS, plan.PeakRAM)
		}
	}
}
