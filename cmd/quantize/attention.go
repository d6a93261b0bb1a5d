package main

import (
	"context"
	"fmt"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// planAttention puts the recipe's attention plan into the sidecar: one mode for all
// layers at once, so that what is made after it sees its target's attention; a plan by
// layer when the checkpoint is written, from what it computes.
func (e *env) planAttention(l *loaded, j job, windows [][]int32, t *transforms, o *packer.ExportOptions) error {
	a := j.recipe.Attention
	if a.Plan == recipe.PlanOff {
		return nil
	}
	if t.sidecar == nil {
		t.sidecar = &packer.Sidecar{}
	}
	if mode, ok := a.Plan.Uniform(); ok {
		m, err := attentionMode(mode)
		if err != nil {
			return err
		}
		t.sidecar.Plan = kernels.UniformPlan(m, l.config.Layers)
		return nil
	}
	var candidates []kernels.AttentionMode
	for _, mode := range a.Candidates {
		m, err := attentionMode(mode)
		if err != nil {
			return err
		}
		candidates = append(candidates, m)
	}
	o.Finish = func(ctx context.Context, written *checkpoint.Reader) (map[string][]byte, error) {
		measured, err := e.measureAttention(ctx, l, written, candidates, windows[:min(a.Windows, len(windows))], t.sidecar)
		if err != nil {
			return nil, err
		}
		t.sidecar.Plan = kernels.ChoosePlan(measured, kernels.PlanOptions{MinCosine: a.MinCosine, Fraction: a.Fraction})
		data, err := packer.EncodeSidecar(t.sidecar)
		return map[string][]byte{packer.SidecarPath: data}, err
	}
	return nil
}

// measureAttention runs the windows through the written checkpoint, cache included, and
// measures the candidates in each layer. Every layer sees what exact attention of the
// layers before it gives.
func (e *env) measureAttention(ctx context.Context, l *loaded, written *checkpoint.Reader, candidates []kernels.AttentionMode, windows [][]int32, sidecar *packer.Sidecar) ([][]packer.MeasuredAttention, error) {
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
	return meter.Measured(), nil
}

// attentionMode is the kernels' mode of a recipe's. One that is not listed is an error, not
// the zero mode, which rounds nothing.
func attentionMode(m recipe.AttentionMode) (kernels.AttentionMode, error) {
	switch m {
	case recipe.BF16QK:
		return kernels.AttentionBF16, nil
	case recipe.FP8QK:
		return kernels.AttentionFP8, nil
	case recipe.Int8QK:
		return kernels.AttentionInt8, nil
	case recipe.Int4QK:
		return kernels.AttentionInt4, nil
	default:
		return 0, &fault.Error{
			Err: recipe.ErrInvalid, Where: "attention", Found: fmt.Sprintf("mode %d", m), Wanted: "bf16, fp8, int8-qk or int4-qk",
			Hint: "this program has no kernel of it: choose another",
		}
	}
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
