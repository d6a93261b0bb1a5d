package eval

import (
	"fmt"
	"slices"

	"quantize/internal/fault"
)

// cut makes the windows of the protocol.
func cut(models []Candidate, text Text, o Options) ([][]int32, int, error) {
	if len(models) == 0 {
		return nil, 0, &fault.Error{Err: ErrInput, Found: "no model", Wanted: "at least one"}
	}
	context, vocab := models[0].Model.Config.MaxPositions, models[0].Model.Config.Vocab
	for _, m := range models[1:] {
		context = min(context, m.Model.Config.MaxPositions)
		if v := m.Model.Config.Vocab; v != vocab {
			return nil, 0, &fault.Error{
				Err: ErrInput, Where: m.Name, Found: fmt.Sprintf("a vocabulary of %d", v),
				Wanted: fmt.Sprintf("%d as in %s", vocab, models[0].Name), Hint: "only models of one tokenizer can be compared",
			}
		}
	}
	tokens, size := text.Tokens, o.Window
	if size == 0 {
		size = min(MaxWindow, context)
	}
	if size < 2 || size > context {
		return nil, 0, &fault.Error{
			Err: ErrInput, Where: "window", Found: fmt.Sprintf("%d tokens", size),
			Wanted: fmt.Sprintf("2 to the trained context, %d", context),
		}
	}
	n := len(tokens) / size
	if n == 0 {
		return nil, 0, &fault.Error{
			Err: ErrInput, Where: text.Name, Found: fmt.Sprintf("%d tokens", len(tokens)),
			Wanted: fmt.Sprintf("at least one window of %d", size), Hint: "give more text or a smaller --window",
		}
	}
	if o.Windows < 0 || o.Windows > n {
		return nil, 0, &fault.Error{
			Err: ErrInput, Where: text.Name, Found: fmt.Sprintf("%d windows of %d tokens", n, size),
			Wanted: fmt.Sprintf("%d", o.Windows), Hint: "leave --windows out for all of them",
		}
	}
	if o.Windows > 0 {
		n = o.Windows
	}
	for i, t := range tokens[:n*size] {
		if t < 0 || int(t) >= vocab {
			return nil, 0, &fault.Error{
				Err: ErrInput, Where: fmt.Sprintf("%s: token %d", text.Name, i), Found: fmt.Sprintf("id %d", t),
				Wanted: fmt.Sprintf("an id below the vocabulary, %d", vocab), Hint: "does the tokenizer belong to this model?",
			}
		}
	}
	return slices.Collect(slices.Chunk(tokens[:n*size], size)), size, nil
}

// protocol says how the number beside it was made.
func protocol(window, context int, hasBOS bool, o Options) string {
	bos := "no BOS"
	if hasBOS {
		bos = "one BOS"
	}
	part := "all windows"
	if o.Windows > 0 {
		part = fmt.Sprintf("the first %d", o.Windows)
	}
	why := fmt.Sprintf("min(%d, trained context %d)", MaxWindow, context)
	if window != min(MaxWindow, context) {
		why = fmt.Sprintf("chosen; the protocol has %s", why)
	}
	return fmt.Sprintf("GPTQ: text tokenised whole (%s), non-overlapping windows of %d tokens (%s), %s, remainder dropped, mean NLL over %d next tokens a window",
		bos, window, why, part, window-1)
}
