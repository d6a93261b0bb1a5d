package main

import (
	"context"
	"fmt"

	"quantize/checkpoint"
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// planAttention puts the recipe's attention plan into the sidecar: one mode for all
// layers at once, so that what is made after it sees its target's attention; a plan by
// layer when the checkpoint is written, from what it computes.
func (e *env) planAttention(l *loaded, j job, windows [][]int32, t *transforms, o *packer.ExportOptions) {
	a := j.recipe.Attention
	if a.Plan == recipe.PlanOff {
		return
	}
	if t.sidecar == nil {
		t.sidecar = &packer.Sidecar{}
	}
	if mode, ok := a.Plan.Uniform(); ok {
		t.sidecar.Plan = kernels.UniformPlan(attentionMode(mode), l.config.Layers)
		return
	}
	o.Finish = func(ctx context.Context, written *checkpoint.Reader) (map[string][]byte, error) {
		plan, err := e.measureAttention(ctx, l, written, a, windows[:min(a.Windows, len(windows))], t.sidecar)
		if err != nil {
			return nil, err
		}
		t.sidecar.Plan = plan
		data, err := packer.EncodeSidecar(t.sidecar)
		return map[string][]byte{packer.SidecarPath: data}, err
	}
}

// measureAttention runs the windows through the written checkpoint, cache included, and
// chooses a mode for each layer. Every layer sees what exact attention of the layers
// before it gives.
func (e *env) measureAttention(ctx context.Context, l *loaded, written *checkpoint.Reader, a recipe.Attention, windows [][]int32, sidecar *packer.Sidecar) (*packer.AttentionPlan, error) {
	q, err := opened(written, l.compute)
	if err != nil {
		return nil, err
	}
	src, err := kernels.SourceBeside(written, q.compute, arithmetics[readings[q.scheme()][0]], sidecar)
	if err != nil {
		return nil, err
	}
	run, err := q.runtime(sidecar)
	if err != nil {
		return nil, err
	}
	var candidates []kernels.AttentionMode
	for _, m := range a.Candidates {
		candidates = append(candidates, attentionMode(m))
	}
	meter := kernels.NewAttentionMeter(q.config, q.compute, candidates)
	run.Attend = meter.Attend
	m, err := model.New(q.config, src, q.compute)
	if err != nil {
		return nil, err
	}
	bar := e.progress("attention")
	defer bar.end()
	_, err = m.WithRuntime(run).Stream(ctx, windows, model.StreamOptions{OnBlock: func(done, total int) { bar.set(int64(done), int64(total)) }})
	if err != nil {
		return nil, err
	}
	return kernels.ChoosePlan(meter.Measured(), kernels.PlanOptions{MinCosine: a.MinCosine, Fraction: a.Fraction}), nil
}

func attentionMode(m recipe.AttentionMode) kernels.AttentionMode {
	return map[recipe.AttentionMode]kernels.AttentionMode{
		recipe.FP8QK: kernels.AttentionFP8, recipe.Int8QK: kernels.AttentionInt8, recipe.Int4QK: kernels.AttentionInt4,
	}[m] // and bf16
}

// writtenPlan is the plan in the sidecar of the checkpoint in dir; nil: none.
func writtenPlan(dir string) (*packer.AttentionPlan, error) {
	s, err := packer.ReadSidecar(dir)
	if err != nil || s == nil {
		return nil, err
	}
	return s.Plan, nil
}

// planOf describes the plan of a sidecar; "" where there is none.
func planOf(s *packer.Sidecar) string {
	if s == nil || s.Plan == nil {
		return ""
	}
	return s.Plan.String()
}

// plannedLayer is a line of inspect on the attention of a layer.
func plannedLayer(layer int, l packer.PlannedLayer) string {
	s := fmt.Sprintf("attention of layer %-4d %-8v", layer, l.Mode)
	for _, m := range l.Candidates {
		s += fmt.Sprintf("  %v: cosine %.6f (worst head %.6f), relative L1 %.4f (%.4f)", m.Mode, m.Cosine, m.WorstCosine, m.RelativeL1, m.WorstRelativeL1)
	}
	return s
}
