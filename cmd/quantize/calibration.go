package main

import (
	"context"
	"fmt"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/model/tokenizer"
)

// calibrationWindows reads and cuts the text that the recipe is calibrated on.
func calibrationWindows(l *loaded, j job) ([][]int32, error) {
	files := j.calib
	if len(files) == 0 {
		files = j.recipe.Calibration.Files
	}
	if len(files) == 0 {
		return nil, &usageError{fmt.Errorf("recipe %s with these flags is calibrated and no text is given (--calib FILE, or calibration.files in the recipe)", j.recipe.Name)}
	}
	tok, err := tokenizer.Load(j.model)
	if err != nil {
		return nil, err
	}
	c := j.recipe.Calibration
	tokens, err := calibrate.Tokens(tok, 0, files...)
	if err != nil {
		return nil, err
	}
	windows := calibrate.Windows(tokens, min(c.Window, l.config.MaxPositions), c.Samples, c.Seed)
	if len(windows) == 0 {
		return nil, &fault.Error{
			Err: calibrate.ErrInvalid, Where: files[0], Found: fmt.Sprintf("%d tokens", len(tokens)),
			Wanted: fmt.Sprintf("a window of %d", c.Window), Hint: "give more text, or a smaller calibration.window",
		}
	}
	return windows, nil
}

// collect takes the statistics of every linear's input.
func (e *env) collect(ctx context.Context, l *loaded, windows [][]int32, transforms []model.Transform, o calibrate.Options) (*calibrate.Stats, error) {
	weights, err := l.fold(transforms)
	if err != nil {
		return nil, err
	}
	m, err := model.New(weights.Config(), weights, l.compute)
	if err != nil {
		return nil, err
	}
	bar := e.progress("calibrate")
	defer bar.end()
	o.MatMulT, o.Buffer = l.compute.MatMulT, l.buffer
	if o.Phase != nil {
		o.Phase.Journal = l.journal
	}
	o.OnBlock = func(done, total int) { bar.set(int64(done), int64(total)) }
	return calibrate.Collect(ctx, m, windows, o)
}
