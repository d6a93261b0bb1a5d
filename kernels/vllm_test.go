package kernels_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"quantize/checkpoint"
	"quantize/kernels/cpu"
	"quantize/packer"
)

// Bounds of the comparison with vLLM: mean KL(ours, vLLM) in nats on the trained demo model,
// or where ours is further than that from itself storing BF16 wherever vLLM does, so many
// times that distance: a network with FP8 activations turns every rounding into
// other FP8 codes. Of random models only the order of the readings says something.
const (
	vllmDemoA8  = 3e-4
	vllmDemoA16 = 1e-4
	vllmNoise   = 1.5
)

// TestVLLM judges every case that testdata/interop/vllm/prepare.sh made by the dump that
// run.py made of it on a Hopper GPU. QUANTIZE_VLLM is the directory given to prepare.sh,
// with the dumps in its folder dumps.
func TestVLLM(t *testing.T) {
	root := os.Getenv("QUANTIZE_VLLM")
	if root == "" {
		t.Skip("QUANTIZE_VLLM is not set: see docs/interop.md")
	}
	cases, err := filepath.Glob(filepath.Join(root, "there", "cases", "*.json"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases in %s (%v)", root, err)
	}
	for _, file := range cases {
		c := readJSON[vllmCase](t, file)
		t.Run(c.Name, func(t *testing.T) {
			dir := filepath.Join(root, "dumps", c.Name)
			d := readJSON[vllmDump](t, filepath.Join(dir, "vllm.json"))
			if d.Error != "" {
				if c.Must != "" {
					t.Errorf("vLLM did not load it: %s", d.Error)
				}
				t.Logf("vLLM: %s", d.Error)
				return
			}
			result, faults := c.judge(t, open(t, c.ours(root)), open(t, dir), d)
			t.Logf("%+v", result)
			for _, f := range faults {
				t.Error(f)
			}
			data, err := json.Marshal(result)
			if err == nil && !t.Failed() {
				err = os.WriteFile(filepath.Join(dir, "ours.json"), data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func readJSON[T any](t *testing.T, file string) (v T) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// vllmCase is a file that prepare.sh writes: an export, one of its config files, and the
// reading that vLLM computes.
type vllmCase struct{ Name, Model, Format, Export, Reading, Ours, Must string }

// ours is the checkpoint that our side runs: the export, or what its bytes mean.
func (c vllmCase) ours(root string) string {
	if c.Ours != "" {
		return filepath.Join(root, c.Ours)
	}
	return filepath.Join(root, "there", "exports", c.Export)
}

// readings are those to compare with, the one of vLLM first.
func (c vllmCase) readings() ([]packer.Arithmetic, error) {
	switch c.Reading {
	case "lut":
		return []packer.Arithmetic{packer.LUT, packer.Exact}, nil
	case "exact":
		return []packer.Arithmetic{packer.Exact}, nil
	case "weight-only":
		return []packer.Arithmetic{packer.WeightOnly}, nil
	default:
		return nil, fmt.Errorf("reading %q, want lut, exact or weight-only", c.Reading)
	}
}

// bound of the divergence, 0 for none.
func (c vllmCase) bound() float64 {
	switch {
	case c.Model != "demo":
		return 0
	case c.Format == "compressed-tensors W4A8":
		return vllmDemoA8
	case c.Format == "compressed-tensors W4A16":
		return vllmDemoA16
	default:
		return 0
	}
}

// vllmDump is what dump.py says in vllm.json, as far as the test needs it.
type vllmDump struct {
	Error  string
	Prompt int     // tokens of the first window before the greedy ones
	Greedy []int32 // what vLLM continued it with
}

// vllmResult is a case's ours.json, of which collect.py makes a row.
type vllmResult struct {
	Bound    float64        `json:"kl_bound,omitempty"`
	Itself   float64        `json:"kl_itself"` // KL(ours, ours that stores BF16)
	Readings []vllmDistance `json:"readings"`
	Scales   *vllmScales    `json:"scales,omitempty"`
}

// judge compares a dump with our checkpoint; faults are the demands that it misses.
func (c vllmCase) judge(t *testing.T, r, dump *checkpoint.Reader, d vllmDump) (result vllmResult, faults []string) {
	t.Helper()
	readings, err := c.readings()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range readings {
		m := vllmModel(t, r, cpu.New(), a)
		result.Readings = append(result.Readings, measureVLLM(t, m, readingNames[a], dump, d))
	}
	first := result.Readings[0]
	result.Itself = storingBF16(t, r, cpu.New(), readings[0], dumpedWindows(t, dump))
	if result.Bound = c.bound(); result.Bound > 0 {
		result.Bound = max(result.Bound, vllmNoise*result.Itself)
	}
	if result.Bound > 0 && !(first.KL <= result.Bound) {
		faults = append(faults, fmt.Sprintf("KL(%s, vLLM) %.2g, want at most %.2g", first.Reading, first.KL, result.Bound))
	}
	if c.Reading != "lut" {
		return result, faults
	}
	// A router that turns to another expert outweighs the readings, and an FP8 cache rounds otherwise than ours.
	other := result.Readings[1]
	if c.Must != "" && !hasExperts(t, r) && !(first.KL < other.KL) {
		faults = append(faults, fmt.Sprintf("KL(%s, vLLM) %.3g is not below KL(%s, vLLM) %.3g", first.Reading, first.KL, other.Reading, other.KL))
	}
	s, err := compareScales(r, dump)
	if err != nil {
		t.Fatal(err)
	}
	if !s.allEqual() {
		faults = append(faults, fmt.Sprintf("scales as loaded are not those of our reading: %+v", s))
	}
	result.Scales = &s
	return result, faults
}

var readingNames = map[packer.Arithmetic]string{packer.LUT: "lut", packer.Exact: "exact", packer.WeightOnly: "weight-only"}
