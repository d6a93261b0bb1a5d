//go:build !race

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A run stays within the memory that plan announces for it, and takes most of it: what
// is not taken is left to the time at which the collector ran. The program is built,
// since a test is larger; the race detector takes memory of its own.
func TestRunKeepsToWhatPlanAnnounces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "quantize")
	build := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
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
		var plan struct {
			PeakRAM int64 `json:"peak_ram_bytes"`
		}
		var got struct {
			PeakRSS int64 `json:"peak_rss_bytes"`
		}
		result := func(into any, args ...string) {
			out, err := exec.Command(program, append(append(args, flags...), "--output", "json")...).Output()
			if err != nil {
				t.Fatalf("%v: %v", args, err)
			}
			if err := json.Unmarshal(out, into); err != nil {
				t.Fatal(err)
			}
		}
		result(&plan, "plan", base)
		result(&got, "run", base, "-o", filepath.Join(t.TempDir(), "out"), "--calib", text)
		if got.PeakRSS == 0 {
			t.Skip("this system does not tell the peak")
		}
		t.Logf("%v: %.1f MB of %.1f MB", flags, float64(got.PeakRSS)/1e6, float64(plan.PeakRAM)/1e6)
		if got.PeakRSS > plan.PeakRAM {
			t.Errorf("%v: peak %d, plan announced %d", flags, got.PeakRSS, plan.PeakRAM)
		}
		if float64(plan.PeakRAM) > 1.3*float64(got.PeakRSS) {
			t.Errorf("%v: plan announced %d, far above the peak %d", flags, plan.PeakRAM, got.PeakRSS)
		}
	}
}
