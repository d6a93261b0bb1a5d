package packer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/checkpoint"

	"quantize/internal/alloc"
)

func sidecars() map[string]*Sidecar {
	return map[string]*Sidecar{
		"nothing":      {},
		"int4":         {KV: KVScheme{Format: KVInt4, GroupSize: 32, Symmetric: true, FP8Queries: true}},
		"int4, scaled": {KV: KVScheme{Format: KVInt4}, KeyScales: [][]float32{{1, 0.25, 3}, nil, {7, 0x1p-126, math.MaxFloat32}}},
		"rotated down": {Down: DownHadamard},
		"int4, smooth": {
			KV: KVScheme{Format: KVInt4}, KeyMeans: [][]float32{{0, -1.5}, nil}, ValueMeans: [][]float32{nil, {math.MaxFloat32, 0x1p-149}},
			Down: DownHadamard,
		},
		"all": {
			KV: KVScheme{Format: KVFP8}, KeyScales: [][]float32{nil, {2}}, KeyMeans: [][]float32{{-3}, nil},
			ValueMeans: [][]float32{{4}, {5}}, KScales: []float32{0.5, 2}, VScales: []float32{3, 0.125}, Down: DownHadamard,
		},
		"plan": {Plan: &AttentionPlan{MinCosine: 0.998, Layers: []PlannedLayer{
			{Mode: AttentionBF16, Candidates: []MeasuredAttention{{AttentionInt4, AttentionError{0.99, 0.9, 0.2, 0.3}}}},
			{Mode: AttentionInt8, AttentionError: AttentionError{0.9999, 0.9991, 0.01, 0.02}},
		}}},
		"plan beside scales": {
			KV: KVScheme{Format: KVFP8}, KScales: []float32{0.5}, VScales: []float32{3},
			Plan: &AttentionPlan{Layers: []PlannedLayer{{Mode: AttentionFP8}}},
		},
		"fp8": {KV: KVScheme{Format: KVFP8}, KScales: []float32{0.5, 2}, VScales: []float32{3, 0.125}},
		"fp8, scaled": {
			KV: KVScheme{Format: KVFP8, FP8Queries: true}, KeyScales: [][]float32{nil, {2, 4}},
			KScales: []float32{0.5, 2}, VScales: []float32{3, 0.125},
		},
	}
}

func encoded(t testing.TB, s *Sidecar) []byte {
	t.Helper()
	data, err := EncodeSidecar(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSidecarRoundTrip(t *testing.T) {
	t.Parallel()
	for name, s := range sidecars() {
		data := encoded(t, s)
		got, err := ParseSidecar(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !bytes.Equal(encoded(t, got), data) {
			t.Errorf("%s: encoded again it has other bytes", name)
		}
		dir := t.TempDir()
		if none, err := ReadSidecar(dir); none != nil || err != nil {
			t.Errorf("%s: no file reads as %v, %v", name, none, err)
		}
		path := filepath.Join(dir, filepath.FromSlash(SidecarPath))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSidecar(dir); err != nil || !cmp.Equal(s, got) {
			t.Errorf("%s: read from its file: %v", name, err)
		}
	}
}

// Other tools read the file: as the weights of a checkpoint it is parsed by the
// safetensors library.
func TestSidecarIsSafetensors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"config.json": []byte("{}"), "model.safetensors": encoded(t, sidecars()["all"])} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	got := map[string][]float32{}
	for _, name := range r.Names() {
		m, err := r.Matrix(name)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = m.Data
	}
	want := map[string][]float32{
		"layers.1.key_scale": {2}, "layers.0.key_mean": {-3}, "layers.0.value_mean": {4}, "layers.1.value_mean": {5},
		"layers.0.k_scale": {0.5}, "layers.0.v_scale": {3}, "layers.1.k_scale": {2}, "layers.1.v_scale": {0.125},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// No byte of a file can be changed, removed or added unnoticed.
func TestParseSidecarNoticesEveryByte(t *testing.T) {
	t.Parallel()
	data := encoded(t, sidecars()["all"])
	check := func(what string, at int, data []byte) {
		t.Helper()
		if _, err := ParseSidecar(data); !errors.Is(err, ErrInvalid) {
			t.Fatalf("%s %d: error %v, want ErrInvalid", what, at, err)
		}
	}
	for i := range data {
		for _, flip := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(data)
			changed[i] ^= flip
			check("changed byte", i, changed)
		}
		check("cut at byte", i, data[:i])
	}
	check("added byte", len(data), append(bytes.Clone(data), 0))
}

func TestSidecarRefuses(t *testing.T) {
	t.Parallel()
	nan := float32(math.NaN())
	fp8 := KVScheme{Format: KVFP8}
	for name, c := range map[string]struct {
		s    Sidecar
		want error
	}{
		"bad scheme":            {Sidecar{KV: KVScheme{Format: 7}}, ErrOption},
		"fp8 without scales":    {Sidecar{KV: fp8}, ErrOption},
		"one scale missing":     {Sidecar{KV: fp8, KScales: []float32{1, 1}, VScales: []float32{1}}, ErrOption},
		"scales without fp8":    {Sidecar{KScales: []float32{1}, VScales: []float32{1}}, ErrOption},
		"layers that differ":    {Sidecar{KV: fp8, KeyScales: [][]float32{{1}}, KScales: []float32{1, 1}, VScales: []float32{1, 1}}, ErrOption},
		"too many layers":       {Sidecar{KeyScales: make([][]float32, 1<<12+1)}, ErrOption},
		"too many channels":     {Sidecar{KeyScales: [][]float32{make([]float32, 1<<20+1)}}, ErrOption},
		"zero":                  {Sidecar{KeyScales: [][]float32{{1, 0}}}, ErrInvalid},
		"negative":              {Sidecar{KeyScales: [][]float32{{-1}}}, ErrInvalid},
		"subnormal":             {Sidecar{KeyScales: [][]float32{{0x1p-127}}}, ErrInvalid},
		"not a number":          {Sidecar{KV: fp8, KScales: []float32{nan}, VScales: []float32{1}}, ErrInvalid},
		"means of fewer layers": {Sidecar{KeyScales: make([][]float32, 2), ValueMeans: make([][]float32, 1)}, ErrOption},
		"means beside fp8":      {Sidecar{KV: fp8, KeyMeans: make([][]float32, 2), KScales: []float32{1}, VScales: []float32{1}}, ErrOption},
		"mean not a number":     {Sidecar{KeyMeans: [][]float32{{1, nan}}}, ErrInvalid},
		"infinite mean":         {Sidecar{ValueMeans: [][]float32{{float32(math.Inf(-1))}}}, ErrInvalid},
		"unknown rotation":      {Sidecar{Down: "Hadamard"}, ErrOption},
		"empty plan":            {Sidecar{Plan: &AttentionPlan{}}, ErrOption},
		"unknown mode":          {Sidecar{Plan: &AttentionPlan{Layers: []PlannedLayer{{Mode: 4}}}}, ErrOption},
		"cosine above 1":        {Sidecar{Plan: &AttentionPlan{Layers: []PlannedLayer{{AttentionError: AttentionError{Cosine: 1.5}}}}}, ErrOption},
		"budget above 1":        {Sidecar{Plan: &AttentionPlan{MinCosine: 2, Layers: make([]PlannedLayer, 1)}}, ErrOption},
		"error not a number":    {Sidecar{Plan: &AttentionPlan{Layers: []PlannedLayer{{AttentionError: AttentionError{RelativeL1: math.NaN()}}}}}, ErrOption},
		"too many candidates":   {Sidecar{Plan: crowdedPlan()}, ErrOption},
		"plan of fewer layers":  {Sidecar{KeyMeans: make([][]float32, 2), Plan: &AttentionPlan{Layers: make([]PlannedLayer, 1)}}, ErrOption},
		"infinite last scale":   {Sidecar{KV: fp8, KScales: []float32{1}, VScales: []float32{float32(math.Inf(1))}}, ErrInvalid},
	} {
		if _, err := EncodeSidecar(&c.s); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same written by somebody else, with a hash that is right.
	for name, x := range map[string]*sidecarIndex{
		"other version":      {Version: 2, KeyScales: []int{}},
		"negative channels":  {Version: 1, KeyScales: []int{-1}},
		"huge channels":      {Version: 1, KeyScales: []int{1 << 40}},
		"negative layers":    {Version: 1, KeyScales: []int{}, FP8Layers: -1},
		"zero as a scale":    {Version: 1, KeyScales: []int{2}},
		"scheme in pieces":   {Version: 1, KeyScales: []int{}, KV: KVScheme{GroupSize: 32}},
		"fp8 without scales": {Version: 1, KeyScales: []int{}, KV: fp8},
		"null for a list":    {Version: 1},
		"negative means":     {Version: 1, KeyScales: []int{}, KeyMeans: []int{-1}},
		"huge means":         {Version: 1, KeyScales: []int{}, ValueMeans: []int{1 << 40}},
		"unknown rotation":   {Version: 1, KeyScales: []int{}, Down: "turned"},
		"crowded plan":       {Version: 1, KeyScales: []int{}, Plan: crowdedPlan()},
	} {
		var body []byte
		if len(x.KeyScales) == 1 && x.KeyScales[0] == 2 {
			body = make([]byte, 8)
		}
		var parts []sidecarPart
		if body != nil {
			parts = x.empty().parts()
		}
		head, err := x.header(parts, body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSidecar(append(head, body...)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadSidecarNamesTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(SidecarPath)), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSidecar(dir); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory in its place: %v", err)
	}
	other := t.TempDir()
	if err := os.Mkdir(filepath.Join(other, "quantize"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, filepath.FromSlash(SidecarPath)), []byte("nothing of the kind"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSidecar(other); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), other) {
		t.Errorf("another file: %v", err)
	}
}

// crowdedPlan measures more candidates than there are modes.
func crowdedPlan() *AttentionPlan {
	return &AttentionPlan{Layers: []PlannedLayer{{Candidates: make([]MeasuredAttention, 5)}}}
}

// The largest sidecar that check lets pass has a header that is read; one byte more is
// refused before it is decoded, whatever the file holds.
func TestSidecarHeaderIsBounded(t *testing.T) {
	t.Parallel()
	long := AttentionError{-0.12345678901234567, -0.12345678901234567, 1.2345678901234567e-100, 1.2345678901234567e-100}
	all := func() [][]float32 {
		lists := make([][]float32, maxSidecarLayers)
		for layer := range lists {
			lists[layer] = []float32{1}
		}
		return lists
	}
	s := &Sidecar{
		KV: KVScheme{Format: KVFP8, FP8Queries: true}, KeyScales: all(), KeyMeans: all(), ValueMeans: all(), Down: DownHadamard,
		KScales: slices.Repeat([]float32{1}, maxSidecarLayers), VScales: slices.Repeat([]float32{1}, maxSidecarLayers),
		Plan: &AttentionPlan{MinCosine: 0.12345678901234567, Layers: make([]PlannedLayer, maxSidecarLayers)},
	}
	for layer := range s.Plan.Layers {
		l := &s.Plan.Layers[layer]
		l.Mode, l.AttentionError = AttentionInt8, long
		for range attentionModeNames {
			l.Candidates = append(l.Candidates, MeasuredAttention{AttentionInt8, long})
		}
	}
	data := encoded(t, s)
	t.Logf("a header of %d bytes", binary.LittleEndian.Uint64(data))
	if got, err := ParseSidecar(data); err != nil || !reflect.DeepEqual(s, got) {
		t.Errorf("the largest sidecar: %v", err)
	}

	longer := slices.Concat(binary.LittleEndian.AppendUint64(nil, maxSidecarHeader+1), []byte("{"), bytes.Repeat([]byte(" "), maxSidecarHeader-1), []byte("}"))
	if _, err := ParseSidecar(longer); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "header") {
		t.Errorf("a header of %d bytes: %v", maxSidecarHeader+1, err)
	}

	empty := &sidecarIndex{Version: sidecarVersion, KeyScales: []int{}, Plan: &AttentionPlan{Layers: make([]PlannedLayer, 1<<18)}}
	head, err := empty.header(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSidecar(head); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "items") {
		t.Errorf("empty layers by the hundred thousand: %v", err)
	}
}

func FuzzParseSidecar(f *testing.F) {
	for _, s := range sidecars() {
		f.Add(encoded(f, s))
	}
	crowded := &sidecarIndex{Version: sidecarVersion, KeyScales: []int{}, Plan: crowdedPlan()}
	head, err := crowded.header(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head)
	f.Add(append(binary.LittleEndian.AppendUint64(nil, maxSidecarHeader+1), "{}"...))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s *Sidecar
		var err error
		if over := alloc.Check(len(data), func() { s, err = ParseSidecar(data) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is no ErrInvalid", err)
			}
			return
		}
		if !bytes.Equal(encoded(t, s), data) {
			t.Fatal("a file that is read is not the one its contents give")
		}
	})
}
