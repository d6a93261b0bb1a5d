package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"quantize/calibrate"
	"quantize/eval"
	"quantize/internal/fault"
	"quantize/model/tokenizer"
	"quantize/packer"
)

// measurement is an evaluation that is ready to run: checkpoints are open and
// texts are read, nothing is computed.
type measurement struct {
	e          *env
	base       *eval.Candidate // nil: none
	baseSum    string          // of the base's content
	full       *loaded         // the base's checkpoint
	candidates []eval.Candidate
	first      []int // of each checkpoint's readings in candidates
	texts      []eval.Text
	options    eval.Options
	open       []*loaded // here; others are of whoever gave them
	card       card      // of the candidates; nil: the CPU
	closeCard  func() error
}

// measurement opens the checkpoints in dirs, of which the first has the tokenizer.
func (e *env) measurement(ctx context.Context, dirs []string, o evalOptions) (_ *measurement, err error) {
	m := &measurement{e: e, options: eval.Options{Window: o.window, Windows: o.windows}}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if o.base != "" {
		if m.options.Cache, err = o.cache.open(e); err != nil {
			return nil, err
		}
	}
	if m.card, m.closeCard, err = device(o.device, e.err); err != nil {
		return nil, err
	}
	if m.texts, err = readTexts(dirs[0], o.texts); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		l, err := m.load(dir, o.open)
		if err != nil {
			return nil, err
		}
		l.exactAttention, l.card = o.attention == "off", m.card
		wanted := o.arithmetic
		if len(dirs) > 1 && l.scheme() != "w4a8" {
			wanted = nil // beside others that have readings to choose from
		}
		read, err := l.candidates(ctx, dir, wanted)
		if err != nil {
			return nil, err
		}
		m.first = append(m.first, len(m.candidates))
		m.candidates = append(m.candidates, read...)
	}
	if o.base == "" {
		return m, nil
	}
	b, err := m.load(o.base, o.open)
	if err != nil {
		return nil, err
	}
	if err := fullPrecision(b); err != nil {
		return nil, err
	}
	base, err := b.candidates(ctx, o.base, nil)
	if err != nil {
		return nil, err
	}
	m.base, m.full = &base[0], b
	if m.options.Cache == nil {
		return m, nil
	}
	if err := m.identify(ctx); err != nil {
		return nil, err
	}
	m.base.ID, err = resultID(m.baseSum, b.compute)
	return m, err
}

func (m *measurement) load(dir string, open checkpoints) (*loaded, error) {
	if l := open[dir]; l != nil {
		return l, nil
	}
	l, err := load(dir)
	if err == nil {
		m.open = append(m.open, l)
	}
	return l, err
}

// identify reads all of the base for its hash.
func (m *measurement) identify(ctx context.Context) (err error) {
	if m.baseSum == "" {
		m.baseSum, err = m.full.contentSum(ctx)
	}
	return err
}

// protocols are those of the texts.
func (m *measurement) protocols() ([]eval.Protocol, error) {
	models := m.candidates
	if m.base != nil {
		models = append([]eval.Candidate{*m.base}, models...)
	}
	return eval.Protocols(models, m.texts, m.options)
}

// onlyFirst leaves each checkpoint its first reading.
func (m *measurement) onlyFirst() {
	var kept []eval.Candidate
	for i, at := range m.first {
		kept = append(kept, m.candidates[at])
		m.first[i] = i
	}
	m.candidates = kept
}

// run evaluates; report [t][i] is of texts[t] and candidates[i].
func (m *measurement) run(ctx context.Context, withoutKL bool) ([][]eval.Report, error) {
	bar := m.e.progress("evaluate")
	defer bar.end()
	o := m.options
	o.OnProgress, o.WithoutKL = bar.set, withoutKL
	if m.base == nil {
		return eval.Perplexity(ctx, m.candidates, m.texts, o)
	}
	return eval.Compare(ctx, *m.base, m.candidates, m.texts, o)
}

// of are the reports of checkpoint i, of all that run gave.
func (m *measurement) of(i int, reports [][]eval.Report) [][]eval.Report {
	end := len(m.candidates)
	if i+1 < len(m.first) {
		end = m.first[i+1]
	}
	var own [][]eval.Report
	for _, r := range reports {
		own = append(own, r[m.first[i]:end])
	}
	return own
}

func (m *measurement) close() {
	for _, l := range m.open {
		l.close()
	}
	if m.closeCard != nil {
		_ = m.closeCard() // results have been copied back
	}
}

// arithmetics are the readings by name; full precision and FP8 have one.
var arithmetics = map[string]packer.Arithmetic{
	"lut": packer.LUT, "exact": packer.Exact, "weight-only": packer.WeightOnly,
	"bf16": packer.WeightOnly, "fp8": packer.Exact,
}

// readings names the arithmetics that a scheme's configuration means, the first the
// runtime's that most users deploy.
var readings = map[string][]string{"bf16": {"bf16"}, "fp8": {"fp8"}, "w4a16": {"weight-only"}, "w4a8": {"lut", "exact"}}

// chosen are the readings of a W4A8 checkpoint that --arithmetic may name.
var chosen = []string{"lut", "exact", "weight-only"}

func unknownReading(name string) error {
	return &usageError{fmt.Errorf("--arithmetic: found %q, wanted lut, exact or weight-only", name)}
}

// candidates are the readings of the checkpoint that are evaluated; wanted
// names them, none takes those its config.json means.
func (l *loaded) candidates(ctx context.Context, dir string, wanted []string) ([]eval.Candidate, error) {
	scheme := l.scheme()
	names := readings[scheme]
	if len(wanted) > 0 {
		if scheme != "w4a8" && !slices.Equal(wanted, names) {
			return nil, &usageError{fmt.Errorf("%s is %s: it has one reading; leave --arithmetic out", dir, scheme)}
		}
		names = wanted
	}
	head, err := l.headID(ctx)
	if err != nil {
		return nil, err
	}
	var out []eval.Candidate
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, &usageError{fmt.Errorf("--arithmetic: found %s twice, wanted each reading once", name)}
		}
		a, ok := arithmetics[name]
		if !ok || scheme == "w4a8" && !slices.Contains(chosen, name) {
			return nil, unknownReading(name)
		}
		m, err := l.model(a)
		if err != nil {
			return nil, err
		}
		on := "cpu"
		if planned := l.attention != "" && l.attention != "off"; l.card != nil && (planned || a != packer.WeightOnly) {
			on = "cuda"
		}
		out = append(out, eval.Candidate{Model: m, Name: filepath.Base(filepath.Clean(dir)), Arithmetic: name, Device: on, Attention: l.attention, HeadID: head, Unchanged: l.unchanged})
	}
	return out, nil
}

// readTexts reads texts with the tokenizer of the checkpoint in dir.
func readTexts(dir string, paths []string) ([]eval.Text, error) {
	names, err := textNames(paths)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return nil, err
	}
	texts := make([]eval.Text, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, &fault.Error{Err: eval.ErrInput, Where: path, Found: fault.Cause(err), Wanted: "a readable text file", Hint: fault.HintFile}
		}
		if !utf8.Valid(data) {
			return nil, &fault.Error{Err: eval.ErrInput, Where: path, Found: "bytes that are not UTF-8", Wanted: "UTF-8 text"}
		}
		text := string(calibrate.WithoutMark(data))
		plain, err := tok.Encode(text, false)
		if err != nil {
			return nil, err
		}
		ids, err := tok.Encode(text, true)
		if err != nil {
			return nil, err
		}
		texts[i] = eval.Text{Name: names[i], Tokens: ids, BOS: len(ids) > 0 && (len(plain) == 0 || ids[0] != plain[0])}
	}
	return texts, nil
}

// textNames are the names that reports and budgets have for text files.
func textNames(paths []string) ([]string, error) { return namesOf("texts", paths) }

// namesOf are the last elements of paths, which verdicts and results name things by.
func namesOf(what string, paths []string) ([]string, error) {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = filepath.Base(filepath.Clean(p))
		if slices.Contains(names[:i], names[i]) {
			return nil, &usageError{fmt.Errorf("found two %s named %s, wanted names that tell them apart", what, names[i])}
		}
	}
	return names, nil
}
