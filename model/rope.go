package model

import (
	"cmp"
	"fmt"
	"math"
	"strings"
)

// RopeType is a way of scaling rotary frequencies.
type RopeType string

// The supported rope types, spelled as in config.json.
const (
	RopeDefault RopeType = "default"
	RopeLinear  RopeType = "linear"
	RopeLlama3  RopeType = "llama3"
	RopeYarn    RopeType = "yarn"
)

// Rope holds the parameters of the rotary embedding. Fields that the type does
// not use are zero.
type Rope struct {
	Type              RopeType
	Theta             float64 // base of the frequencies
	Factor            float64 // linear, llama3, yarn: how much the context was stretched
	OriginalPositions int     // llama3, yarn: context before stretching
	LowFreqFactor     float64 // llama3
	HighFreqFactor    float64 // llama3
	BetaFast          float64 // yarn: rotations above which a pair keeps its frequency
	BetaSlow          float64 // yarn: rotations below which it is divided by Factor
	Truncate          bool    // yarn: round the bounds of that range to whole pairs
	AttentionFactor   float64 // multiplies cos and sin; 1 except for yarn
}

const defaultTheta = 10000

// parseRope reads rope_parameters (new) or rope_theta and rope_scaling (old).
// Both spellings may stand in one file if they agree.
func parseRope(f *fields, c *Config) Rope {
	theta := f.positive("rope_theta", cmp.Or(c.Arch.Defaults.RopeTheta, defaultTheta))
	given := f.has("rope_theta")
	newer, older := f.object("rope_parameters"), f.object("rope_scaling")
	if newer == nil && older == nil {
		return Rope{Type: RopeDefault, Theta: theta, AttentionFactor: 1}
	}
	var found []Rope
	for _, o := range []*fields{newer, older} {
		if o != nil {
			found = append(found, readRope(o, c, theta))
			f.faults = append(f.faults, o.faults...)
		}
	}
	r := found[0]
	switch {
	case len(f.faults) > 0:
	case len(found) == 2 && found[0] != found[1]:
		f.fail("rope_scaling", "another embedding than rope_parameters", "one spelling, or two that agree", "")
	case given && r.Theta != theta:
		f.fail("rope_theta", fmt.Sprint(theta), fmt.Sprintf("rope_parameters.rope_theta = %v", r.Theta), "")
	}
	return r
}

func readRope(o *fields, c *Config, theta float64) Rope {
	name := o.text("rope_type")
	if old := o.text("type"); name == "" {
		name = old
	}
	if name == "" {
		name = string(RopeDefault)
	}
	r := Rope{Type: RopeType(name), Theta: o.positive("rope_theta", theta), AttentionFactor: 1}
	switch r.Type {
	case RopeDefault:
	case RopeLinear:
		r.Factor = o.positive("factor", 0)
	case RopeLlama3:
		r.Factor = o.positive("factor", 0)
		r.LowFreqFactor = o.positive("low_freq_factor", 0)
		r.HighFreqFactor = o.positive("high_freq_factor", 0)
		r.OriginalPositions = o.count("original_max_position_embeddings", c.MaxPositions, maxPositions)
		if len(o.faults) == 0 && r.HighFreqFactor <= r.LowFreqFactor {
			o.fail("high_freq_factor", fmt.Sprint(r.HighFreqFactor), fmt.Sprintf("more than low_freq_factor = %v", r.LowFreqFactor), "")
		}
	case RopeYarn:
		r.yarn(o, c)
	default:
		o.fail("rope_type", fmt.Sprintf("%q", name),
			strings.Join([]string{string(RopeDefault), string(RopeLinear), string(RopeLlama3), string(RopeYarn)}, ", "), "other rope types are not supported")
		return r
	}
	o.fixed(map[string]any{"partial_rotary_factor": 1.0})
	o.rest(func(string) bool { return false }, fmt.Sprintf("rope type %s does not use it", r.Type))
	return r
}

// yarn reads YaRN's parameters with the defaults of transformers: betas 32 and
// 1, attention factor 0.1 ln(s) + 1 (Peng et al., eq. 22), or the ratio of two
// such terms where mscale and mscale_all_dim are given (DeepSeek).
func (r *Rope) yarn(o *fields, c *Config) {
	r.OriginalPositions = o.count("original_max_position_embeddings", c.MaxPositions, maxPositions)
	if o.null("factor") && r.OriginalPositions > 0 {
		r.Factor = float64(c.MaxPositions) / float64(r.OriginalPositions)
	} else {
		r.Factor = o.positive("factor", 0)
	}
	r.BetaFast = o.positive("beta_fast", 32)
	r.BetaSlow = o.positive("beta_slow", 1)
	r.Truncate = o.flag("truncate", true)
	term := func(m float64) float64 {
		if r.Factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(r.Factor) + 1
	}
	r.AttentionFactor = term(1)
	var mscale, all float64 // zero counts as absent
	o.decode("mscale", "a number", &mscale)
	o.decode("mscale_all_dim", "a number", &all)
	if mscale != 0 && all != 0 {
		r.AttentionFactor = term(mscale) / term(all)
	}
	r.AttentionFactor = o.positive("attention_factor", r.AttentionFactor)
	if math.IsNaN(r.AttentionFactor) || math.IsInf(r.AttentionFactor, 0) || r.AttentionFactor <= 0 {
		o.fail("mscale", fmt.Sprintf("an attention factor of %v", r.AttentionFactor), "a positive one", "")
	}
	if len(o.faults) == 0 && (r.BetaFast < r.BetaSlow || r.Theta <= 1) {
		o.fail("beta_fast", fmt.Sprintf("%v with beta_slow %v and base %v", r.BetaFast, r.BetaSlow, r.Theta), "beta_fast >= beta_slow and a base above 1", "")
	}
}
