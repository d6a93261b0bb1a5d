package kernels_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// Bounds of the comparison with transformers in float32: a linear on the same
// input differs by the order of summation alone; whole-model logits also by
// FP8 codes that flip where an activation falls on another side of a midpoint.
const (
	interopLinear = 1e-6
	// GPTQModel's torch kernel for AWQ rounds activations and sums to FP16, half an ulp each.
	interopLinearAWQ = 0x1p-10
	// A row whose largest scale is below 1/512 stores bf16(s8*chan) for s8*chan
	// (methods.md 1.17, point 2): transformers multiplies the one, a kernel the other.
	interopFloorRow  = 0x1p-8
	interopCosineA16 = 0.9999
	interopCosineA8  = 0.999
	interopNoise     = 1.5 // times the distance of two of our own orders of summation
)

// TestInterop compares every dump that testdata/interop/run.sh made with
// transformers. QUANTIZE_INTEROP names the folder of cases; without it there is
// nothing to compare with (make interop sets it).
func TestInterop(t *testing.T) {
	root := os.Getenv("QUANTIZE_INTEROP")
	if root == "" {
		t.Skip("QUANTIZE_INTEROP is not set: run `make interop DIR=...`")
	}
	cases, err := filepath.Glob(filepath.Join(root, "*", "dump"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no dumps in %s (%v)", root, err)
	}
	for _, dump := range cases {
		dir := filepath.Dir(dump)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var c interopCase
			data, err := os.ReadFile(filepath.Join(dir, "case.json"))
			if err == nil {
				err = json.Unmarshal(data, &c)
			}
			if err != nil {
				t.Fatal(err)
			}
			compared := compareDump(t, filepath.Join(dir, "ours"), dump, c)
			if data, err = json.Marshal(compared); err == nil && !t.Failed() {
				err = os.WriteFile(filepath.Join(dir, "ours.json"), data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// interopCase is what the test needs of case.json, which run.sh writes.
type interopCase struct{ Format, Reading string }

// arithmetic is the reading that transformers computes.
func (c interopCase) arithmetic() packer.Arithmetic {
	if c.Reading == "exact" {
		return packer.Exact
	}
	return packer.WeightOnly
}

// linear bounds the difference of a linear on the same input.
func (c interopCase) linear() float64 {
	if c.Format == "AWQ" {
		return interopLinearAWQ
	}
	return interopLinear
}

// interopResult is a case's ours.json, of which collect.py makes a row.
type interopResult struct {
	Linears int     `json:"linears"`
	Worst   float64 `json:"worst_linear"`
	Cosine  float64 `json:"cosine"`
	Bound   float64 `json:"cosine_bound"`
}

func compareDump(t *testing.T, dir, dump string, of interopCase) interopResult {
	r, d, c, a := open(t, dir), open(t, dump), cpu.New(), of.arithmetic()
	src, err := kernels.Source(r, c, a)
	if err != nil {
		t.Fatal(err)
	}
	q, err := packer.ParseQuantizationConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	a8 := false
	worst, linears := 0.0, 0
	for _, name := range d.Names() {
		module, ok := strings.CutSuffix(name, ".in")
		if !ok {
			continue
		}
		var w packer.Weight // nil where dir is what command plain wrote
		if q != nil {
			if w, err = packer.ReadWeight(r, module, q); err != nil {
				t.Fatal(err)
			}
			a8 = a8 || w.ActivationBits() == 8 && a != packer.WeightOnly
		}
		l, err := src.Linear(module)
		if err != nil {
			t.Fatal(err)
		}
		x, want := read(t, d, name), read(t, d, module+".out")
		got := tensor.NewMatrix(want.Rows, want.Cols)
		l.Forward(got, x)
		linears++
		regular, floor := byFloor(w, a, got, want)
		worst = max(worst, regular)
		if !(regular <= of.linear()) {
			t.Errorf("%s: relative difference %.2g, want at most %.0g", module, regular, of.linear())
		}
		if !(floor <= interopFloorRow) {
			t.Errorf("%s: relative difference %.2g in rows at the floor, want at most %.2g", module, floor, interopFloorRow)
		}
	}
	if linears == 0 {
		t.Fatal("the dump holds no linear")
	}
	window, _ := readIDs(t, d, "ids")
	got := logits(t, r, src, c, window)
	cos := nearestLogits(t, d, got)
	bound := interopCosineA16
	if a8 {
		bound = interopCosineA8
	}
	if a8 && cos < bound {
		bound = 1 - interopNoise*(1-cosine(got.Data, inAnotherOrder(t, r, a, window).Data))
	}
	if !(cos >= bound) {
		t.Errorf("logits: cosine %.7f, want at least %.7f", cos, bound)
	}
	t.Logf("%d linears, worst relative difference %.2g; logits cosine %.8f (bound %.7f)", linears, worst, cos, bound)
	return interopResult{linears, worst, cos, bound}
}

// nearestLogits is the cosine to logits of the dump, or where transformers has several outcomes
// to the nearest of logits, logits.1, .2, ...
func nearestLogits(t *testing.T, d *checkpoint.Reader, got tensor.Matrix) float64 {
	t.Helper()
	cos := -1.0
	for _, name := range d.Names() {
		if name == "logits" || strings.HasPrefix(name, "logits.") {
			cos = max(cos, cosine(got.Data, read(t, d, name).Data))
		}
	}
	return cos
}

func TestNearestLogits(t *testing.T) {
	rows := map[string][]float32{"logits": {1, 0, 0, 0}, "logits.1": {0, 1, 0, 0}, "other": {0, 0, 1, 0}}
	var tensors []checkpoint.Info
	for name := range rows {
		tensors = append(tensors, checkpoint.Info{Name: name, DType: tensor.F32, Shape: []int{2, 2}})
	}
	dir := filepath.Join(t.TempDir(), "dump")
	w, err := checkpoint.Create(dir, tensors, checkpoint.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range rows {
		if err := w.Add(name, raw32(t, row)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.File("config.json", []byte("{}")), w.Commit()); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	for at, want := range []float64{1, 1, 0, 0} {
		got := tensor.NewMatrix(2, 2)
		got.Data[at] = 2
		if cos := nearestLogits(t, d, got); cos != want {
			t.Errorf("element %d: cosine %v, want %v", at, cos, want)
		}
	}
}

// inAnotherOrder gives the logits of the plain Go kernels, which sum in another
// order: where a network turns that into other FP8 codes, nothing else can agree
// better than the two of ours do.
func inAnotherOrder(t *testing.T, r *checkpoint.Reader, a packer.Arithmetic, window []int32) tensor.Matrix {
	t.Helper()
	c := cpu.NewISA(cpu.Generic, 0)
	src, err := kernels.Source(r, c, a)
	if err != nil {
		t.Fatal(err)
	}
	return logits(t, r, src, c, window)
}

// byFloor is the relative difference of the outputs whose row factor is above
// the floor, and of the others.
func byFloor(w packer.Weight, a packer.Arithmetic, got, want tensor.Matrix) (regular, floor float64) {
	atFloor := make([]bool, want.Cols)
	if q, ok := w.(*packer.Int4Weight); ok && a == packer.Exact {
		chans, _ := q.Split()
		for n, ch := range chans {
			atFloor[n] = ch == 1.0/(448*512)
		}
	}
	var parts [2][2][]float32 // at the floor, then got and want
	for i := range want.Rows {
		for n, v := range want.Row(i) {
			p := &parts[0]
			if atFloor[n] {
				p = &parts[1]
			}
			p[0], p[1] = append(p[0], got.Row(i)[n]), append(p[1], v)
		}
	}
	if len(parts[1][0]) > 0 {
		floor = relative(parts[1][0], parts[1][1])
	}
	return relative(parts[0][0], parts[0][1]), floor
}

func logits(t *testing.T, r *checkpoint.Reader, src model.Source, c model.Compute, window []int32) tensor.Matrix {
	t.Helper()
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(cfg, src, c)
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := m.Stream(context.Background(), [][]int32{window}, model.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.Head()
	if err != nil {
		t.Fatal(err)
	}
	out := tensor.NewMatrix(len(window), cfg.Vocab)
	head.Logits(out, hidden[0])
	return out
}

func read(t *testing.T, r *checkpoint.Reader, name string) tensor.Matrix {
	t.Helper()
	m, err := r.Matrix(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// readIDs are the values and the shape of an I64 tensor of token ids.
func readIDs(t *testing.T, r *checkpoint.Reader, name string) ([]int32, []int) {
	t.Helper()
	info, err := r.Info(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.Raw(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.DType != tensor.I64 {
		t.Fatalf("%s has dtype %v, want I64", name, info.DType)
	}
	out := make([]int32, len(raw)/8)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint64(raw[i*8:]))
	}
	return out, info.Shape
}

// relative is |got - want| / |want| in the Euclidean norm.
func relative(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	return math.Sqrt(diff / norm)
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab += x * y
		aa += x * x
		bb += y * y
	}
	return ab / math.Sqrt(aa*bb)
}
