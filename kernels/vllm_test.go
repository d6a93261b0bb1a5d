package kernels_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"quantize/checkpoint"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
)

// Bounds of the comparison with vLLM: mean KL(ours, vLLM) in nats on the trained demo model,
// or where ours is further than that from itself storing what vLLM stores, so many times
// that distance: a network with FP8 activations turns every rounding into other FP8 codes.
// Other trained models have the latter alone; of random ones only the order of the readings
// says something.
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

// vllmCase is a file that prepare.sh writes: an export, one of its config files, the reading
// that vLLM computes, the type in which it stores activations and whether it compiles.
type vllmCase struct{ Name, Model, Format, Export, Reading, DType, Mode, Ours, Must, Trained string }

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

// bound of the divergence, 0 for none: of random models, and of formats whose kernels we do not run.
func (c vllmCase) bound(itself float64) float64 {
	if c.Must == "" || c.Trained == "" {
		return 0
	}
	bound := vllmNoise * itself
	switch {
	case c.Model != "demo":
		return bound
	case c.Reading == "lut":
		return max(vllmDemoA8, bound)
	default:
		return max(vllmDemoA16, bound)
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
	Itself   float64        `json:"kl_itself"` // KL(ours, ours that stores what vLLM does)
	Readings []vllmDistance `json:"readings"`
	Linears  vllmLinears    `json:"linears"`
	Scales   *vllmScales    `json:"scales,omitempty"`
}

// judge compares a dump with our checkpoint; faults are the demands that it misses.
func (c vllmCase) judge(t *testing.T, r, dump *checkpoint.Reader, d vllmDump) (result vllmResult, faults []string) {
	t.Helper()
	readings, err := c.readings()
	if err != nil {
		t.Fatal(err)
	}
	stored, ok := vllmTypes[c.DType]
	if !ok {
		t.Fatalf("dtype %q, want bfloat16 or float16", c.DType)
	}
	var models []*model.Model
	for _, a := range readings {
		m := vllmModel(t, r, cpu.New(), a)
		models = append(models, m)
		result.Readings = append(result.Readings, measureVLLM(t, m, readingNames[a], dump, d))
	}
	as := vllmModel(t, r, storing{ofType{cpu.New(), stored}}, readings[0])
	first := result.Readings[0]
	result.Itself = toItself(t, models[0], as, dumpedWindows(t, dump))
	result.Bound = c.bound(result.Itself)
	if result.Bound > 0 && !(first.KL <= result.Bound) {
		faults = append(faults, fmt.Sprintf("KL(%s, vLLM) %.2g, want at most %.2g", first.Reading, first.KL, result.Bound))
	}
	result.Linears = compareLinears(t, r, dump, readings, stored)
	if l, bound := result.Linears, stored.unit; c.Must != "" && c.Mode == "eager" && !(l.Linears > 0 && l.Worst <= bound && l.Nearer == 0) {
		faults = append(faults, fmt.Sprintf("linears on the same input: %+v, want at least one, the worst at most %.2g, none as near to the other reading", l, bound))
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
	// Compiled, vLLM makes chan of amax * fl(1/448), which can be one ulp off.
	if exact := c.Mode == "eager"; !s.equal(exact) {
		faults = append(faults, fmt.Sprintf("scales as loaded are not those of our reading: %+v", s))
	}
	result.Scales = &s
	return result, faults
}

var readingNames = map[packer.Arithmetic]string{packer.LUT: "lut", packer.Exact: "exact", packer.WeightOnly: "weight-only"}
