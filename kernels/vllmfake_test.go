package kernels_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/kernels/ref"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// The judge of vLLM's dumps is itself judged here, by dumps of our own forward pass in vLLM's place.

const fakeWindow, fakePrompt, fakeGreedy = 24, 8, 6

// fakeVLLM writes a dump of r read by a, with linears that store a type and scales as vLLM fuses them; spoil changes its bytes by name.
func fakeVLLM(t *testing.T, r *checkpoint.Reader, a packer.Arithmetic, stored vllmType, spoil map[string]func([]byte)) (*checkpoint.Reader, vllmDump) {
	t.Helper()
	m := vllmModel(t, r, ref.New(), a)
	rng := rand.New(rand.NewPCG(3, 0))
	windows := make([][]int32, 2)
	bodies := map[string][]byte{"ids": nil, "logprobs": nil}
	for i := range windows {
		for range fakeWindow {
			windows[i] = append(windows[i], rng.Int32N(int32(m.Config.Vocab)))
			bodies["ids"] = binary.LittleEndian.AppendUint64(bodies["ids"], uint64(windows[i][len(windows[i])-1]))
		}
	}
	tensors := []checkpoint.Info{
		{Name: "ids", DType: tensor.I64, Shape: []int{2, fakeWindow}},
		{Name: "logprobs", DType: tensor.F32, Shape: []int{2 * (fakeWindow - 1), m.Config.Vocab}},
	}
	for i, ours := 0, logProbs(t, m, windows); i < len(windows); i++ {
		p := ours(i)
		bodies["logprobs"] = append(bodies["logprobs"], raw32(t, p.Data[:(fakeWindow-1)*p.Cols])...)
	}
	for name, body := range fusedScales(t, r, m.Config) {
		info := checkpoint.Info{Name: name, DType: tensor.U8, Shape: []int{len(body)}}
		if strings.HasSuffix(name, ".chan") || strings.HasSuffix(name, ".chan8") {
			info = checkpoint.Info{Name: name, DType: tensor.F32, Shape: []int{len(body) / 4}}
		}
		bodies[name], tensors = body, append(tensors, info)
	}
	for name, m := range fakeLinears(t, r, a, stored, m.Config) {
		bodies[name] = raw32(t, m.Data)
		tensors = append(tensors, checkpoint.Info{Name: name, DType: tensor.F32, Shape: []int{m.Rows, m.Cols}})
	}
	for name, change := range spoil {
		change(bodies[name])
	}
	dir := filepath.Join(t.TempDir(), "dump")
	w, err := checkpoint.Create(dir, tensors, checkpoint.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range bodies {
		if err := w.Add(name, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.File("config.json", r.ConfigJSON()); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir), greedyDump(t, m, windows[0][:fakePrompt])
}

// fakeLinears are the linears of the only layer on random inputs, fused and with outputs rounded as vLLM's are.
func fakeLinears(t *testing.T, r *checkpoint.Reader, a packer.Arithmetic, stored vllmType, cfg *model.Config) map[string]tensor.Matrix {
	t.Helper()
	rng, out := rand.New(rand.NewPCG(5, 0)), map[string]tensor.Matrix{}
	for _, l := range []struct {
		name string
		k    int
	}{
		{"self_attn.qkv_proj", cfg.Hidden},
		{"self_attn.o_proj", cfg.Heads * cfg.HeadDim},
		{"mlp.gate_up_proj", cfg.Hidden},
		{"mlp.down_proj", cfg.Intermediate},
	} {
		name, x := "model.layers.0."+l.name, tensor.NewMatrix(fakePrompt, l.k)
		for i := range x.Data {
			x.Data[i] = stored.of(float32(rng.NormFloat64()))
		}
		y := fusedLinear(t, r, a, stored, name, x)
		stored.round(y)
		out[name+".in"], out[name+".out"] = x, y
	}
	return out
}

// greedyDump continues a prompt by the first choice.
func greedyDump(t *testing.T, m *model.Model, prompt []int32) vllmDump {
	t.Helper()
	d := vllmDump{Prompt: len(prompt)}
	text := append([]int32{}, prompt...)
	for range fakeGreedy {
		p := logProbs(t, m, [][]int32{text})(0)
		d.Greedy = append(d.Greedy, int32(argmax(p.Row(len(text)-1))))
		text = append(text, d.Greedy[len(d.Greedy)-1])
	}
	return d
}

// fusedScales computes what vLLM makes of the scales by the words of methods.md 1.17, from the stored BF16 alone.
func fusedScales(t *testing.T, r *checkpoint.Reader, cfg *model.Config) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for fused, parts := range map[string][]string{
		"self_attn.qkv_proj": {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, "self_attn.o_proj": {"self_attn.o_proj"},
		"mlp.gate_up_proj": {"mlp.gate_proj", "mlp.up_proj"}, "mlp.down_proj": {"mlp.down_proj"},
	} {
		prefix := "model.layers.0."
		var stored tensor.Matrix
		for _, p := range parts {
			m := read(t, r, prefix+p+".weight_scale")
			stored.Rows, stored.Cols, stored.Data = stored.Rows+m.Rows, m.Cols, append(stored.Data, m.Data...)
		}
		chans, eight := make([]float32, stored.Rows), make([]float32, stored.Rows)
		s8, table := make([]byte, len(stored.Data)), make([]byte, 8*len(stored.Data))
		for n := range stored.Rows {
			for _, s := range stored.Data[n*stored.Cols:][:stored.Cols] {
				chans[n] = max(chans[n], s/448, 1.0/(448*512))
			}
			eight[n] = 8 * chans[n]
			for g := range stored.Cols {
				b := tensor.E4M3(stored.Data[n*stored.Cols+g] / chans[n])
				s8[n*stored.Cols+g] = b
				for q := -8; q < 0; q++ {
					table[8*(g*stored.Rows+n)+q+8] = tensor.E4M3(float32(q) * tensor.RoundE4M3(tensor.E4M3Value(b)/8))
				}
			}
		}
		out[prefix+fused+".s8"], out[prefix+fused+".table"] = s8, table
		out[prefix+fused+".chan"], out[prefix+fused+".chan8"] = raw32(t, chans), raw32(t, eight)
	}
	if cfg.Layers != 1 {
		t.Fatalf("%d layers, the fake has one", cfg.Layers)
	}
	return out
}

func raw32(t *testing.T, x []float32) []byte {
	t.Helper()
	raw := make([]byte, 4*len(x))
	if err := tensor.Encode(raw, x, tensor.F32); err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestVLLMJudge(t *testing.T) {
	r := open(t, export(t, packer.W4A8, "-"))
	a8 := vllmCase{Model: "demo", Format: "compressed-tensors W4A8", Reading: "lut", DType: "bfloat16", Mode: "eager", Must: "true", Trained: "true"}
	a16 := vllmCase{Model: "demo", Format: "compressed-tensors W4A16", Reading: "weight-only", DType: "float16", Mode: "eager", Must: "true", Trained: "true"}
	compiled := a8
	compiled.Mode = "compiled"
	flip := func(at int) func([]byte) { return func(b []byte) { b[at] ^= 1 } }
	for _, c := range []struct {
		name  string
		of    vllmCase
		as    packer.Arithmetic // what the dump computes
		spoil map[string]func([]byte)
		fault []string // of each fault, a part of it
	}{
		{name: "a kernel of the lut reading", of: a8, as: packer.LUT},
		{name: "weights alone", of: a16, as: packer.WeightOnly},
		{name: "a kernel of the other reading", of: a8, as: packer.Exact, fault: []string{"want at most", "linears on the same input", "is not below"}},
		{name: "activations rounded that should not be", of: a16, as: packer.LUT, fault: []string{"want at most", "linears on the same input"}},
		{name: "an output of another row", of: a8, as: packer.LUT, spoil: map[string]func([]byte){"model.layers.0.self_attn.qkv_proj.out": func(b []byte) { copy(b[:4], b[4:]) }}, fault: []string{"linears"}},
		{name: "one byte of a table", of: a8, as: packer.LUT, spoil: map[string]func([]byte){"model.layers.0.mlp.down_proj.table": flip(8*3 + 2)}, fault: []string{"BytesEqual"}},
		{name: "one s8", of: a8, as: packer.LUT, spoil: map[string]func([]byte){"model.layers.0.self_attn.qkv_proj.s8": flip(130)}, fault: []string{"GroupEqual"}},
		{name: "one bit of a row factor", of: a8, as: packer.LUT, spoil: map[string]func([]byte){"model.layers.0.self_attn.o_proj.chan": flip(4)}, fault: []string{"RowsEqual"}},
		{name: "one bit of a row factor, compiled", of: compiled, as: packer.LUT, spoil: map[string]func([]byte){"model.layers.0.self_attn.o_proj.chan": flip(4)}},
		{name: "one s8, compiled", of: compiled, as: packer.LUT, spoil: map[string]func([]byte){"model.layers.0.self_attn.qkv_proj.s8": flip(130)}, fault: []string{"GroupEqual"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dump, d := fakeVLLM(t, r, c.as, vllmTypes[c.of.DType], c.spoil)
			result, faults := c.of.judge(t, r, dump, d)
			if len(faults) != len(c.fault) {
				t.Fatalf("faults %q, want %d: %+v", faults, len(c.fault), result)
			}
			for i, want := range c.fault {
				if !strings.Contains(faults[i], want) {
					t.Errorf("fault %q, want one with %q", faults[i], want)
				}
			}
			if len(c.fault) > 0 {
				return
			}
			first := result.Readings[0]
			// The dump is of the plain kernels, the judge runs the fast ones: they sum in another order.
			if math.Abs(first.KL) > 1e-5 || first.Same != fakeGreedy || first.Greedy != fakeGreedy || first.Tokens != 2*(fakeWindow-1) {
				t.Errorf("%+v", first)
			}
			if s := result.Scales; s != nil && (s.Linears != 7 || s.BytesEqual == 0) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestVLLMDumpMustHaveEveryLinear(t *testing.T) {
	r := open(t, export(t, packer.W4A8, "-"))
	plain := open(t, export(t, packer.W4A16, "-"))
	if _, err := compareScales(r, plain); err == nil || !strings.Contains(err.Error(), "7 of our W4A8 linears") {
		t.Errorf("a dump without scales: %v", err)
	}
}
