package report

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/calibrate"
	"quantize/eval"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// observed makes statistics of both models in which one channel stands out before.
func observed(layers int) *Observed {
	stats := func(peak float32) *calibrate.Stats {
		s := &calibrate.Stats{Windows: 1, Tokens: 64}
		for layer := range layers {
			for _, p := range []model.Point{model.AttnIn, model.KPre, model.KPost, model.V, model.OIn, model.MLPIn, model.DownIn} {
				x := make([]float32, 64)
				for k := range x {
					x[k] = 1
				}
				x[7] = peak
				s.Sites = append(s.Sites, calibrate.SiteStats{Site: model.Site{Layer: layer, Point: p}, AbsMax: x})
			}
		}
		return s
	}
	return &Observed{Text: "a.txt", Base: stats(30), Quantized: stats(1.5)}
}

func sidecar() *packer.Sidecar {
	ones := make([]float32, 64)
	for k := range ones {
		ones[k] = 1 + float32(k)/64
	}
	plan := &packer.AttentionPlan{MinCosine: 0.998, Layers: []packer.PlannedLayer{
		{Mode: packer.AttentionInt8, AttentionError: packer.AttentionError{Cosine: 0.9995, WorstCosine: 0.9985, RelativeL1: 0.02}}, {},
	}}
	return &packer.Sidecar{KV: packer.KVScheme{Format: packer.KVInt4, GroupSize: 32}, KeyScales: [][]float32{ones, nil}, Down: packer.DownHadamard, Plan: plan}
}

// full builds a report with every part.
func full(t testing.TB) *Report {
	t.Helper()
	base, out := pair(t, packer.W4A8, sidecar())
	if err := SaveResults(out.Dir(), []eval.Report{reading()}); err != nil {
		t.Fatal(err)
	}
	gate := []eval.Verdict{{Text: "a.txt", Value: 1.02, Side: "max", Limit: 1.1, Margin: 0.08, OK: true, Status: eval.Pass}}
	r, err := Build(t.Context(), Input{Reader: out, Base: base, Observed: observed(2), Gate: gate})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func render(t testing.TB, r *Report) []byte {
	t.Helper()
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestPageHasEverySection(t *testing.T) {
	t.Parallel()
	root := parse(t, render(t, full(t)))
	var got []string
	for _, s := range root.find("section") {
		got = append(got, s.attr["id"])
	}
	want := []string{"summary", "sizes", "predictions", "errors", "channels", "activations", "scales", "attention", "rounding", "calibration", "fallbacks", "provenance", "numbers"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sections, -want +got:\n%s", diff)
	}
	links := map[string]bool{}
	for _, a := range root.find("a") {
		links[a.attr["href"]] = true
	}
	for _, id := range want {
		if !links["#"+id] {
			t.Errorf("no link to %s", id)
		}
	}
	if n := len(root.find("figure")); n != 16 {
		t.Errorf("%d figures, want 16", n)
	}
}

func TestWhatTheReportSays(t *testing.T) {
	t.Parallel()
	r := full(t)
	if !r.Verify.OK || len(r.Layers) != 14 || r.Scheme != packer.W4A8 || r.Group != 128 || r.Recipe != "rtn" {
		t.Errorf("%+v", r)
	}
	if c := r.Scales; c.Count != c.S8Count() || c.Largest < 14*64 {
		t.Errorf("scales: %+v", c)
	}
	if p := r.Activations.Sites[0]; p.Before.Ratio != 30 || p.Before.Channel != 7 || p.Before.Over != 1 || p.After.Over != 0 {
		t.Errorf("activations: %+v", p)
	}
	// Layer 0 has post-RoPE scales, layer 1 has none.
	if a := r.Attention; a.Bits != 4 || a.BytesPerToken != 2*2*64/2 || a.Layers[0].KeyScale[1] != 1+63.0/64 || !math.IsNaN(a.Layers[1].KeyScale[0]) {
		t.Errorf("attention: %+v", a)
	}
	// Layer 0 is planned and was measured, layer 1 is left in bf16.
	if a := r.Attention; a.MinCosine != 0.998 || a.Plan != "int8-qk in 1 of 2 layers, bf16 in 1" ||
		a.Layers[0].Mode != "int8-qk" || a.Layers[0].WorstCosine != 0.9985 || a.Layers[1].Mode != "bf16" || !math.IsNaN(a.Layers[1].Cosine) {
		t.Errorf("plan: %+v", a)
	}
	if r.Bytes.Before <= r.Bytes.After || r.Calibration.Tokens != 3 {
		t.Errorf("bytes %+v, calibration %+v", r.Bytes, r.Calibration)
	}
	v := r.verdict()
	if want := "Perplexity on a.txt changed by +2.02 % (95 %: +1.11 % to +2.94 %)."; !v.OK || !strings.HasSuffix(v.Sentence, want) {
		t.Errorf("verdict %+v, want ... %s", v, want)
	}
}

// S8Count is the number of group scales.
func (s *Scales) S8Count() int64 {
	var n int64
	for _, c := range s.S8 {
		n += c
	}
	return n
}

func TestEqualInputsGiveEqualBytes(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(render(t, full(t)), render(t, full(t))) {
		t.Error("two builds differ")
	}
}

// TestEveryNumberIsTheReports reads the tables of all numbers back.
func TestEveryNumberIsTheReports(t *testing.T) {
	t.Parallel()
	r := full(t)
	root := parse(t, render(t, r))
	same := func(where, text string, want float64) {
		t.Helper()
		if math.IsNaN(want) || math.IsInf(want, -1) {
			if text != none {
				t.Errorf("%s: %q, want %s", where, text, none)
			}
			return
		}
		if got, err := strconv.ParseFloat(text, 64); err != nil || got != want {
			t.Errorf("%s: %q, want %v", where, text, want)
		}
	}
	check := func(id string, want [][]float64, skip int) {
		t.Helper()
		rows := root.rows(id)
		if len(rows) != len(want) {
			t.Fatalf("%s: %d rows, want %d", id, len(rows), len(want))
		}
		for i, row := range rows {
			if len(row) != skip+len(want[i]) {
				t.Fatalf("%s row %d: %d cells, want %d", id, i, len(row), skip+len(want[i]))
			}
			for k, v := range want[i] {
				same(fmt.Sprintf("%s row %d column %d", id, i, skip+k), row[skip+k], v)
			}
		}
	}
	var layers, channels, sites [][]float64
	for _, l := range r.Layers {
		layers = append(layers, []float64{
			float64(l.N), float64(l.K), l.SNRdB, known4(l.Cosine), l.Relative, l.SSE, l.Energy, float64(l.FloorRows), float64(l.LiftedGroups),
			float64(l.ClippedCodes), float64(l.DeadColumns), l.Damp, l.Loss, l.LossRTN, known4(l.OutputSNR), known4(l.OutputCosine),
		})
	}
	peak := func(p *Peak) []float64 { return []float64{p.Ratio, float64(p.Channel), float64(p.Over)} }
	for _, c := range r.Channels {
		channels = append(channels, append(peak(c.Before), peak(c.After)...))
	}
	for _, s := range r.Activations.Sites {
		cached := math.NaN()
		if s.Cached != nil {
			cached = s.Cached.Ratio
		}
		sites = append(sites, append(append(peak(&s.Before), peak(&s.After)...), cached))
	}
	var sizes [][]float64
	for _, p := range r.Sizes {
		sizes = append(sizes, []float64{p.Before, p.After})
	}
	e := r.Results[0]
	check("number-results", [][]float64{{
		64, 12, 768, e.NLL, e.Perplexity, e.Base.Perplexity, e.LnPPLRatio, e.CI95[0], e.CI95[1], e.KLMean, e.KLMedian, e.KLP999, e.Top1Agreement,
	}}, 3)
	check("number-sizes", append(sizes, []float64{r.Bytes.Before, r.Bytes.After}), 1)
	check("number-layers", layers, 1)
	check("number-channels", channels, 1)
	check("number-activations", sites, 2)
	var inputs, cache [][]float64
	for _, i := range r.Rounding.Inputs {
		inputs = append(inputs, []float64{*i.SNR, *i.Cosine})
	}
	for _, c := range r.Rounding.Cache {
		plain := []float64{math.NaN(), math.NaN()}
		if c.UnscaledScores != nil {
			plain = []float64{*c.UnscaledScores.SNR, *c.UnscaledScores.Cosine}
		}
		cache = append(cache, slices.Concat([]float64{*c.Scores.SNR, *c.Scores.Cosine}, plain, []float64{*c.Values.SNR, *c.Values.Cosine}))
	}
	check("number-inputs", inputs, 2)
	check("number-cache", cache, 1)
	rows := root.rows("number-scales")
	for i, n := range r.Scales.Codes {
		at := slices.IndexFunc(rows, func(row []string) bool { return row[0] == fmt.Sprintf("code %d", i-8) })
		if at < 0 || rows[at][1] != fmt.Sprint(n) {
			t.Errorf("code %d: row %d, want count %d", i-8, at, n)
		}
	}
}

func TestPageLoadsNothing(t *testing.T) {
	t.Parallel()
	page := render(t, full(t))
	if m := regexp.MustCompile(`(?i)url\(|@import|https?://`).Find(page); m != nil {
		t.Errorf("the page has %q", m)
	}
	root := parse(t, page)
	for _, name := range []string{"script", "link", "img", "iframe", "object", "embed", "image", "use"} {
		if n := len(root.find(name)); n > 0 {
			t.Errorf("%d elements %s", n, name)
		}
	}
}

func TestHostileNamesStayText(t *testing.T) {
	t.Parallel()
	const hostile = `"><script src="https://evil.example/x.js">alert('1')</script>&lt;`
	r := full(t)
	r.Name, r.Recipe, r.RecipeText = hostile, hostile, hostile
	r.Layers[0].Name, r.Layers[0].Projection = hostile, hostile
	r.Channels[0].Linear, r.Channels[0].Projection = hostile, hostile
	r.Results[0].Text, r.Results[0].Model, r.Results[0].Protocol = hostile, hostile, hostile
	r.Activations.Text, r.Activations.Sites[0].Point = hostile, hostile
	r.Fallbacks, r.Notes = []Fallback{{hostile, hostile}}, []string{hostile}
	r.Runtimes = []string{hostile}
	r.Provenance = append(r.Provenance, Fact{hostile, hostile})
	r.Verify.Checks[0].Detail = hostile
	page := render(t, r)
	root := parse(t, page)
	if len(root.find("script")) > 0 || bytes.Contains(page, []byte("<script")) {
		t.Error("a name became a script")
	}
	if got := root.rows("fallback-table"); len(got) != 1 || got[0][0] != hostile {
		t.Errorf("fallbacks %q", got)
	}
}

// TestNothingToShow renders reports in which parts are missing or not numbers.
func TestNothingToShow(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	broken := reading()
	broken.Perplexity, broken.KLMean, broken.LnPPLRatio = nan, math.Inf(1), nan
	broken.CI95, broken.WindowLnRatio = nil, []float64{nan, math.Inf(1)}
	alone := eval.Report{Result: reading().Result}
	empty := &packer.Verification{OK: true}
	for name, r := range map[string]*Report{
		"empty": {Verify: empty, Bytes: Change{nan, 0}, SNR: nan},
		"not numbers": {
			Verify: empty, Bytes: Change{nan, nan}, SNR: math.Inf(1), Results: []eval.Report{broken},
			Layers:   []Layer{{SNRdB: math.Inf(1), Relative: nan}, {SNRdB: nan, Relative: 0}},
			Channels: []Channels{{After: &Peak{Ratio: nan, Channel: -1}}}, Scales: &Scales{S8: make([]int64, 127)},
			Activations: &Activations{Sites: []SitePeak{{Before: Peak{Ratio: nan, Channel: -1}, After: Peak{Ratio: nan, Channel: -1}}}},
		},
		"no base": {Verify: empty, Bytes: Change{nan, 5}, Results: []eval.Report{alone}},
		"damaged": {Verify: &packer.Verification{Checks: []packer.Check{{Item: "hashes", Detail: "x"}}}, Bytes: Change{nan, 5}},
	} {
		page := render(t, r)
		root := parse(t, page)
		if m := regexp.MustCompile(`NaN|[+-]?Inf\b`).Find(page); m != nil {
			t.Errorf("%s: the page has %q", name, m)
		}
		if v := r.verdict(); v.OK != (name != "damaged") || len(root.find("section")) == 0 {
			t.Errorf("%s: verdict %+v", name, v)
		}
	}
}

func TestFP8(t *testing.T) {
	t.Parallel()
	_, out := pair(t, packer.FP8, nil)
	r, err := Build(t.Context(), Input{Reader: out})
	if err != nil {
		t.Fatal(err)
	}
	if r.Scales.Saturated == 0 || r.Scales.S8 != nil || r.Channels[0].Before != nil || !math.IsNaN(r.Bytes.Before) {
		t.Errorf("%+v, %+v", r.Scales, r.Bytes)
	}
	parse(t, render(t, r))
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	base, out := pair(t, packer.W4A8, nil)
	if _, err := Build(t.Context(), Input{Reader: base}); !isInvalid(err) {
		t.Errorf("full precision: %v", err)
	}
	if err := SaveResults(base.Dir(), nil); err == nil {
		t.Error("results of a checkpoint without a manifest were kept")
	}
	path := filepath.Join(out.Dir(), filepath.FromSlash(ResultsPath))
	for name, data := range map[string]string{
		"damaged": "{", "unknown key": `{"x": 1}`, "other bytes": `{"manifest_sha256": "` + strings.Repeat("0", 64) + `", "readings": []}`,
	} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Build(t.Context(), Input{Reader: out}); !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := []eval.Report{reading()}
	if err := SaveResults(out.Dir(), want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadResults(out.Dir())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// A budget that nothing could be compared for is no pass, and not one that is exceeded.
func TestGateSentence(t *testing.T) {
	t.Parallel()
	pass, fail, unknown := eval.Verdict{Status: eval.Pass}, eval.Verdict{Status: eval.Fail}, eval.Verdict{Status: eval.NotComparable, Reason: "9 windows"}
	for want, gate := range map[string][]eval.Verdict{
		"All 2 budgets hold.":                                   {pass, pass},
		"1 of 2 budgets are exceeded":                           {pass, fail},
		"0 of 2 budgets are exceeded, 1 could not be compared.": {pass, unknown},
	} {
		r := &Report{Verify: &packer.Verification{OK: true}, Gate: gate, Bytes: Change{math.NaN(), 0}}
		v := r.verdict()
		if !strings.Contains(v.Sentence, want) || v.OK != (want == "All 2 budgets hold.") {
			t.Errorf("%+v, want %s", v, want)
		}
		if shown := strings.Contains(string(render(t, r)), "NOT COMPARABLE"); shown != strings.Contains(want, "compared") {
			t.Errorf("%s: the table shows NOT COMPARABLE: %v", want, shown)
		}
	}
}

// A reader compares six digits, as gate prints them; bytes are whole, and why nothing
// could be compared is a sentence.
func TestBudgetDigits(t *testing.T) {
	t.Parallel()
	bound := eval.Number(1.0173031901110055)
	for want, v := range map[string]eval.Verdict{
		"1.01336 (bound 1.0173)": {Value: 1.0133603537844775, Bound: &bound},
		"0.0252841":              {Value: 0.02528413493498779},
		"123456789":              {Metric: recipe.Bytes, Value: 123456789},
	} {
		if got := compared(v); got.Text != want || !got.Number {
			t.Errorf("found %+v, want %s", got, want)
		}
	}
	if got := compared(eval.Verdict{Value: 1, Reason: "the text has 9 windows"}); got != text("the text has 9 windows") {
		t.Errorf("found %+v", got)
	}
}
