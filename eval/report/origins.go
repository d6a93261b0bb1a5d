package report

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// origins says what the checkpoint was made from, and what was not done as asked.
func (b *builder) origins() {
	m, r := b.manifest, &b.report
	linears := []packer.LinearShape{}
	for _, l := range m.Layers {
		linears = append(linears, packer.LinearShape{Name: l.Name, N: l.N, K: l.K})
	}
	// The notes of the manifest end with the runtimes, which are derived anew here.
	runtimes := packer.Runtimes(m.Scheme, m.Group, linears)
	for _, w := range m.Warnings {
		if slices.Contains(runtimes, w) {
			r.Runtimes = append(r.Runtimes, w)
		} else {
			r.Notes = append(r.Notes, w)
		}
	}
	b.fallbacks()
	b.calibration()
	r.Provenance = []Fact{
		{"tool", m.Tool},
		{"recipe", hash([]byte(m.Recipe))},
		{fmt.Sprintf("source, %d tensors", len(m.Sources)), digest(m.Sources)},
		{fmt.Sprintf("output, %d tensors", len(m.Tensors)), digest(m.Tensors)},
	}
	if c := r.Calibration; c.SHA256 != "" {
		r.Provenance = append(r.Provenance, Fact{fmt.Sprintf("calibration, %d tokens", c.Tokens), c.SHA256})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		r.Provenance = append(r.Provenance, Fact{name, m.Files[name]})
	}
}

// fallbacks lists what the recipe wanted and did not get.
func (b *builder) fallbacks() {
	m, r := b.manifest, &b.report
	if b.recipe.Scheme == recipe.W4A8FP8 && m.Scheme != packer.W4A8 {
		r.Fallbacks = append(r.Fallbacks, Fallback{"config.json", fmt.Sprintf("W4A16 in place of W4A8: group size %d", m.Group)})
	}
	quantized := map[string]bool{}
	for _, l := range r.Layers {
		quantized[l.Name] = true
		if l.FloorRows > 0 {
			r.Fallbacks = append(r.Fallbacks, Fallback{l.Name, fmt.Sprintf("%d of %d rows have scales below 1/512 and lose FP8 range", l.FloorRows, l.N)})
		}
		if l.LiftedGroups > 0 {
			r.Fallbacks = append(r.Fallbacks, Fallback{l.Name, fmt.Sprintf("%d groups have a scale raised to the smallest that the kernel keeps", l.LiftedGroups)})
		}
	}
	for _, t := range model.Tensors(b.config) {
		switch {
		case t.Kind != model.KindLinear || quantized[t.Module]:
		case b.recipe.Ignored(t.Module):
			r.Fallbacks = append(r.Fallbacks, Fallback{t.Module, "not quantized: the recipe ignores it"})
		default:
			r.Fallbacks = append(r.Fallbacks, Fallback{t.Module, "not quantized"})
		}
	}
}

func (b *builder) calibration() {
	c := &b.report.Calibration
	c.Wanted = b.recipe.Calibrated()
	if m := b.manifest.Calibration; m != nil {
		c.Windows, c.Tokens, c.SHA256 = m.Windows, m.Tokens, m.SHA256
	}
	c.Counted = len(b.report.Layers) > 0
	for _, l := range b.report.Layers {
		c.Counted = c.Counted && l.Method == "gptq"
		if l.DeadColumns > 0 {
			c.Dead = append(c.Dead, Dead{l.Name, l.DeadColumns, l.K})
		}
	}
}

func hash(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// digest is the hash of names and hashes, in the order of the names.
func digest(hashes map[string]string) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		fmt.Fprintf(sum, "%s %s\n", name, hashes[name])
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}
