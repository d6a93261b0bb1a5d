package recipe

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quantize/internal/alloc"
	"quantize/internal/fault"
)

func TestBuiltins(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"awq", "best", "best-tied", "fireq", "fp8", "gptq", "rtn", "rtn-plain", "rtn-weighted", "sage"}, Names()); diff != "" {
		t.Error(diff)
	}
	for _, name := range Names() {
		r, err := Load(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.Name != name {
			t.Errorf("file %s.yaml names itself %q", name, r.Name)
		}
		again, err := Decode("encoded", r.Encode())
		if err != nil {
			t.Fatalf("%s does not decode again: %v\n%s", name, err, r.Encode())
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("%s changes over Encode and Decode:\n%s", name, diff)
		}
	}
}

func TestDefaultsFillWhatAFileLeavesOut(t *testing.T) {
	t.Parallel()
	r, err := Decode("f", []byte("{name: a, scheme: W4A16, weights: {importance: activations}}"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default(W4A16)
	want.Name, want.Weights.Importance, want.Calibration = "a", Activations, Calibration{Samples: 128, Window: 512}
	if diff := cmp.Diff(&want, r); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	const head = "name: x\nscheme: W4A8_FP8\n"
	tests := []struct {
		name, yaml string
		where      string // of the first fault
		want       string // part of the message
	}{
		{"unknown field", head + "weight: {}\n", "r.yaml:3", "weight"},
		{"unknown nested field", head + "weights:\n  bits: 4\n", "r.yaml:4", "bits"},
		{"repeated field", head + "kv: {format: none}\nkv: {format: none}\n", "r.yaml:4", "kv"},
		{"unknown scheme lists the known", "name: x\nscheme: W4A4\n", "r.yaml:2 (scheme)", "W4A8_FP8, W4A16 or FP8_DYNAMIC"},
		{"scheme in lower case", "name: x\nscheme: w4a16\n", "r.yaml:2 (scheme)", "W4A16"},
		{"no scheme", "name: x\nkv: {format: none}\n", "r.yaml:1 (scheme)", "found nothing"},
		{"no name", "scheme: W4A16\n", "r.yaml:1 (name)", "found nothing"},
		{"name with a path", "name: ../x\nscheme: W4A16\n", "r.yaml:1 (name)", "lower-case"},
		{"group size between", head + "weights: {group_size: 96}\n", "r.yaml:3 (weights.group_size)", "auto, 128, 64 or 32"},
		{"group size zero", head + "weights: {group_size: 0}\n", "r.yaml:3 (weights.group_size)", "auto"},
		{"grid number", head + "weights:\n  grid: 7\n", "r.yaml:4 (weights.grid)", "lut or exact"},
		{"unset grid", head + "weights:\n  grid: ''\n", "r.yaml:4 (weights.grid)", "lut or exact"},
		{"search not a bool", head + "weights:\n  search: maybe\n", "r.yaml:4", "maybe"},
		{"unknown rounding", head + "weights:\n  rounding: obq\n", "r.yaml:4 (weights.rounding)", "rtn or gptq"},
		{"unknown cache", head + "kv: {format: int2}\n", "r.yaml:3 (kv.format)", "none, fp8 or int4"},
		{"cache in one word", head + "kv: int4\n", "r.yaml:3", ""},
		{"groups of a cache that has none", head + "kv: {format: fp8, group_size: 32}\n", "r.yaml:3 (kv.group_size)", "format: int4"},
		{"groups of 48", head + "kv: {format: int4, group_size: 48}\n", "r.yaml:3 (kv.group_size)", "32, 64"},
		{"unknown plan", head + "attention: {plan: int8}\n", "r.yaml:3 (attention.plan)", "int8-qk"},
		{"unknown candidate", head + "attention: {plan: auto, candidates: [int2]}\n", "r.yaml:3 (attention.candidates)", "int4-qk"},
		{"budget of one mode", head + "attention:\n  plan: fp8\n  min_cosine: 0.99\n", "r.yaml:3 (attention)", "plan: auto"},
		{"candidates of no plan", head + "attention: {candidates: [fp8]}\n", "r.yaml:3 (attention)", "plan: auto"},
		{"no candidates", head + "attention: {plan: auto, candidates: []}\n", "r.yaml:3 (attention.candidates)", "at least one"},
		{"bf16 as a candidate", head + "attention: {plan: auto, candidates: [fp8, bf16]}\n", "r.yaml:3 (attention.candidates.1)", "what is left"},
		{"a candidate twice", head + "attention: {plan: auto, candidates: [fp8, fp8]}\n", "r.yaml:3 (attention.candidates.1)", "once"},
		{"no budget", head + "attention: {plan: auto, min_cosine: 0}\n", "r.yaml:3 (attention.min_cosine)", "0.998"},
		{"fraction above 1", head + "attention: {plan: auto, fraction: 2}\n", "r.yaml:3 (attention.fraction)", "at most 1"},
		{"no windows", head + "attention: {plan: auto, windows: 0}\n", "r.yaml:3 (attention.windows)", "1 to"},
		{"damping without GPTQ", head + "weights: {damp: 0.1}\n", "r.yaml:3 (weights.damp)", "rounding: gptq"},
		{"no damping", head + "weights: {rounding: gptq, damp: 0}\n", "r.yaml:3 (weights.damp)", "0.01"},
		{"damping that is no number", head + "weights: {rounding: gptq, damp: .nan}\n", "r.yaml:3 (weights.damp)", "more than 0"},
		{"target without GPTQ", head + "weights: {target: full-precision}\n", "r.yaml:3 (weights.target)", "rounding: gptq"},
		{"scale search of FP8", "name: x\nscheme: FP8_DYNAMIC\nweights: {rounding: gptq, search: true}\n", "r.yaml:3 (weights.search)", "one scale for each output channel"},
		{"unknown rotation", head + "rotation: {residual: spin}\n", "r.yaml:3 (rotation)", "random-hadamard"},
		{"slow rotation at run time", head + "rotation: {down: pca}\n", "r.yaml:3 (rotation.down)", "hadamard"},
		{"seed of nothing", head + "rotation: {residual: hadamard, seed: 3}\n", "r.yaml:3 (rotation.seed)", "random"},
		{"two stages without a level", head + "rope: {method: fireq, exponent: 1}\n", "r.yaml:3 (rope.alpha)", "positive"},
		{"level of nothing", head + "rope: {beta: 8}\n", "r.yaml:3 (rope.beta)", "top_k"},
		{"exponent of nothing", head + "rope: {method: smooth-attention, alpha: 0.5, exponent: 1}\n", "r.yaml:3 (rope.exponent)", "fireq"},
		{"alpha of FireQ", head + "smoothing: {method: fireq, alpha: 0.5}\n", "r.yaml:3 (smoothing.alpha)", "smoothquant"},
		{"clip of FireQ", head + "smoothing: {method: fireq, clip: true}\n", "r.yaml:3 (smoothing.clip)", "awq"},
		{"a pair twice", head + "smoothing: {method: awq, pairs: [qkv, qkv]}\n", "r.yaml:3 (smoothing.pairs.1)", "once"},
		{"pairs of nothing", head + "smoothing: {pairs: [qkv]}\n", "r.yaml:3 (smoothing.pairs.0)", "method"},
		{"alpha above 1", head + "smoothing: {method: smoothquant, alpha: 2}\n", "r.yaml:3 (smoothing.alpha)", "0 to 1"},
		{"importance without search", head + "weights:\n  search: false\n  importance: activations\n", "r.yaml:5 (weights.importance)", "search: true"},
		{"calibration that nothing reads", head + "calibration: {samples: 8}\n", "r.yaml:3 (calibration)", "activations"},
		{"no samples", head + "weights: {importance: activations}\ncalibration:\n  samples: 0\n", "r.yaml:5 (calibration.samples)", "found 0"},
		{"negative samples", head + "weights: {importance: activations}\ncalibration:\n  samples: -1\n", "r.yaml:5 (calibration.samples)", "found -1"},
		{"window of one", head + "weights: {importance: activations}\ncalibration:\n  window: 1\n", "r.yaml:5 (calibration.window)", "2 to"},
		{"negative seed", head + "weights: {importance: activations}\ncalibration:\n  seed: -1\n", "r.yaml:5", "-1"},
		{"empty file name", head + "weights: {importance: activations}\ncalibration:\n  files:\n    - a.txt\n    - ''\n", "r.yaml:7 (calibration.files.1)", "path"},
		{"glob in ignore", head + "ignore:\n- lm_head\n- '*.down_proj'\n", "r.yaml:5 (ignore.1)", "re:"},
		{"bad expression in ignore", head + "ignore: ['re:(']\n", "r.yaml:3 (ignore.0)", "missing closing"},
		{"W4A16 with a grid", "name: x\nscheme: W4A16\nweights: {grid: exact}\n", "r.yaml:3 (weights.grid)", "only W4A8_FP8"},
		{"FP8 with groups", "name: x\nscheme: FP8_DYNAMIC\nweights: {group_size: 128}\n", "r.yaml:3 (weights.group_size)", "FP8_DYNAMIC"},
		{"FP8 with a search", "name: x\nscheme: FP8_DYNAMIC\nweights: {search: true}\n", "r.yaml:3 (weights.search)", "remove"},
		{"list for a map", head + "weights: [1]\n", "r.yaml:3", ""},
		{"map for a scalar", head + "scheme: {a: b}\n", "r.yaml:3", ""},
		{"two documents", head + "---\nname: y\n", "r.yaml", ""},
		{"empty file", "", "r.yaml", ""},
		{"not YAML", "a: [", "r.yaml", ""},
		{"too large", strings.Repeat("#", maxBytes+1), "r.yaml", "bytes"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, err := Decode("r.yaml", []byte(tc.yaml))
			if err == nil {
				t.Fatalf("accepted: %s", r.Encode())
			}
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("not ErrInvalid: %v", err)
			}
			var f *fault.Error
			if !errors.As(err, &f) {
				t.Fatalf("no fault.Error: %v", err)
			}
			if !strings.HasPrefix(f.Where, tc.where) {
				t.Errorf("where is %q, want %q (%v)", f.Where, tc.where, err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v\ndoes not say %q", err, tc.want)
			}
		})
	}
}

// plan: auto alone has defaults, and reads calibration text; off is a word, not a
// boolean.
func TestAttentionDefaults(t *testing.T) {
	t.Parallel()
	const head = "name: x\nscheme: W4A8_FP8\n"
	r, err := Decode("r", []byte(head+"attention: {plan: auto, windows: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := defaultAttention()
	want.Windows = 2
	if !reflect.DeepEqual(r.Attention, want) || !r.Calibrated() || r.Calibration.Samples != defaultCalibration.Samples {
		t.Errorf("%+v, calibrated on %+v", r.Attention, r.Calibration)
	}
	off, err := Decode("r", []byte(head+"attention: {plan: off}\n"))
	if err != nil || !off.Attention.IsZero() || off.Calibrated() {
		t.Errorf("plan: off: %+v, %v", off, err)
	}
	one, err := Decode("r", []byte(head+"attention: {plan: int8-qk}\n"))
	if err != nil || one.Calibrated() {
		t.Fatalf("plan: int8-qk: %v", err)
	}
	if m, ok := one.Attention.Plan.Uniform(); !ok || m != Int8QK {
		t.Errorf("plan: int8-qk is %v, %v", m, ok)
	}
	if _, ok := r.Attention.Plan.Uniform(); ok {
		t.Error("auto is one mode")
	}
	for i, name := range plans { // the plans but off and auto have the modes' names
		if m, ok := Plan(i).Uniform(); ok != (i > int(PlanAuto)) || ok && m.String() != name {
			t.Errorf("plan: %s is %v, %v", name, m, ok)
		}
	}
	if _, ok := Plan(len(plans)).Uniform(); ok {
		t.Error("a plan without a name is one mode")
	}
}

// Validation shows all faults, not the first.
func TestFaultsAreCollected(t *testing.T) {
	t.Parallel()
	_, err := Decode("r", []byte("name: A B\nscheme: W4A16\nweights: {grid: lut}\nignore: ['']\ncalibration: {window: 5}\n"))
	for _, field := range []string{"r:1 (name)", "r:3 (weights.grid)", "r:4 (ignore.0)", "r:5 (calibration)"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v\ndoes not name %s", err, field)
		}
	}
}

// Every built-in recipe is valid under every scheme and cache.
func TestWithSchemeAndKV(t *testing.T) {
	t.Parallel()
	for _, name := range Names() {
		r, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, scheme := range []Scheme{W4A8FP8, W4A16, FP8Dynamic} {
			for _, kv := range []KV{{}, {Format: KVFP8}, {Format: KVInt4, GroupSize: 32}} {
				c := r.WithScheme(scheme).WithKV(kv)
				if err := c.Validate(); err != nil {
					t.Errorf("%s, %v, %v: %v", name, scheme, kv.Format, err)
				}
				if c.Scheme != scheme || c.KV != kv {
					t.Errorf("%s: became %v, %v", name, c.Scheme, c.KV)
				}
			}
			same, _ := Load(name)
			if r.Hash() != same.Hash() {
				t.Fatalf("%s was changed", name)
			}
		}
		if got, want := r.WithScheme(FP8Dynamic).WithScheme(r.Scheme).Weights, r.Weights; got.Rounding != want.Rounding || got.Damp != want.Damp || got.ActOrder != want.ActOrder || got.Target != want.Target {
			t.Errorf("%s: through FP8 its rounding becomes %+v", name, got)
		}
		if r.WithScheme(r.Scheme).Hash() != r.Hash() || r.WithKV(r.KV).Hash() != r.Hash() {
			t.Errorf("%s changes under its own scheme or cache", name)
		}
	}
}

// Each scalar field of a recipe is either part of its canonical text, so that
// it reaches whoever acts on it, or refused: no field is dropped in silence.
func TestEveryFieldIsEncodedOrRefused(t *testing.T) {
	t.Parallel()
	for _, scheme := range []Scheme{W4A8FP8, W4A16, FP8Dynamic} {
		base := Default(scheme)
		base.Name = "x"
		base.Calibration = defaultCalibration
		base.Rotation = Rotation{RandomHadamard, RandomHadamard, NoTurn, 1}
		base.Rope = Rope{FireQRope, 8, 1, Max, 8, 8}
		base.Smoothing = Smoothing{Method: FireQ, Search: true}
		base.KV = KV{KVInt4, 0, true, false}
		base.Attention = defaultAttention()
		if scheme.Int4() {
			base.Weights.Importance = Activations
			base.Weights.Rounding, base.Weights.Damp = GPTQ, defaultDamp
		}
		if err := base.Validate(); err != nil {
			t.Fatal(err)
		}
		fields := 0
		eachField(reflect.ValueOf(&base).Elem(), "", func(name string, v reflect.Value) {
			fields++
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			before := base.Hash()
			change(v)
			if err := base.Validate(); err == nil && base.Hash() == before {
				t.Errorf("%v: a change of %s is accepted and has no effect", scheme, name)
			}
			v.Set(old)
		})
		if fields != 40 {
			t.Errorf("%d fields were changed; adapt the test to the recipe", fields)
		}
	}
}

func eachField(v reflect.Value, prefix string, f func(string, reflect.Value)) {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		if v.Field(i).Kind() == reflect.Struct {
			eachField(v.Field(i), name+".", f)
			continue
		}
		f(name, v.Field(i))
	}
}

// change gives v another value of its type; enums move to the next constant.
func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "y")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Int:
		v.SetInt(max(v.Int(), 0) + 64)
	case reflect.Float64:
		v.SetFloat(v.Float() + 0.25)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			v.Set(reflect.Append(v, reflect.ValueOf(PairDown).Convert(v.Type().Elem()))) // or Int4QK
			return
		}
		v.Set(reflect.Append(v, reflect.ValueOf("model.layers.0.mlp.up_proj")))
	default:
		panic("a field of a new kind: " + v.Kind().String())
	}
}

func TestIgnore(t *testing.T) {
	t.Parallel()
	r := Default(W4A16)
	r.Ignore = []string{"lm_head", "model.layers.1.mlp.up_proj", "re:.*\\.down_proj$", "re:model\\.layers\\.9", "re:layers"}
	for module, want := range map[string]bool{
		"lm_head":                        true,
		"model.layers.1.mlp.up_proj":     true,
		"model.layers.11.mlp.up_proj":    false,
		"model.layers.0.mlp.down_proj":   true,
		"model.layers.0.mlp.down_proj.x": false,
		"model.layers.9.mlp.up_proj":     true,
		"model.layers.2.mlp.up_proj":     false, // re:layers is anchored at the start
	} {
		if r.Ignored(module) != want {
			t.Errorf("%s: ignored is %v", module, !want)
		}
	}
	got := r.UnusedIgnores([]string{"lm_head", "model.layers.0.mlp.down_proj"})
	if diff := cmp.Diff([]string{"model.layers.1.mlp.up_proj", "re:model\\.layers\\.9", "re:layers"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadNamesAndFiles(t *testing.T) {
	t.Parallel()
	if _, err := Load("gptw"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "rtn-plain") {
		t.Errorf("an unknown name gives %v; want the known ones", err)
	}
	if _, err := Load("./no-such.yaml"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a missing file gives %v", err)
	}
	path := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(path, []byte("name: mine\nscheme: FP8_DYNAMIC\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path)
	if err != nil || r.Name != "mine" {
		t.Errorf("%v, %v", r, err)
	}
}

func TestEncodeDecodeIsIdentity(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Default(rapid.SampledFrom([]Scheme{W4A8FP8, W4A16, FP8Dynamic}).Draw(t, "scheme"))
		r.Name = rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,20}`).Draw(t, "name")
		r.Ignore = rapid.SliceOf(rapid.StringMatching(`[a-z.0-9_]{1,12}`)).Draw(t, "ignore")
		if r.Scheme.Int4() {
			r.Weights.GroupSize = rapid.SampledFrom([]GroupSize{GroupAuto, 128, 64, 32}).Draw(t, "group")
			if rapid.Bool().Draw(t, "activations") {
				r.Weights.Importance = Activations
				r.Calibration = Calibration{
					Samples: rapid.IntRange(1, maxSamples).Draw(t, "samples"),
					Window:  rapid.IntRange(2, maxWindow).Draw(t, "window"),
					Seed:    rapid.Uint64().Draw(t, "seed"),
				}
			}
		}
		got, err := Decode("r", r.Encode())
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Encode())
		}
		if got.Hash() != r.Hash() {
			t.Fatalf("%s\nbecomes\n%s", r.Encode(), got.Encode())
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, n := range Names() {
		src, _ := Source(n)
		f.Add(src)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("<<: {name: x}\nscheme: W4A16"))
	f.Add([]byte("scheme: !!binary aa"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r *Recipe
		var err error
		if over := alloc.Check(len(data), func() { r, err = Decode("f", data) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		if _, err := Decode("again", r.Encode()); err != nil {
			t.Fatalf("accepted, but its own encoding is not: %v\n%s", err, r.Encode())
		}
	})
}
