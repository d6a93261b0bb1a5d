package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"quantize/eval"
	"quantize/recipe"
)

// verdict is what a reader in a hurry takes away: damage first, then the gate, then
// what was measured.
func (r *Report) verdict() Verdict {
	failed := 0
	for _, c := range r.Verify.Checks {
		if !c.OK {
			failed++
		}
	}
	if failed > 0 {
		return Verdict{"FAIL", false, fmt.Sprintf("%d of %d checks of the bytes failed: do not deploy this checkpoint.", failed, len(r.Verify.Checks))}
	}
	sentences := []string{fmt.Sprintf("All %d checks of the bytes passed.", len(r.Verify.Checks))}
	ok := true
	if len(r.Gate) > 0 {
		ok = eval.Count(r.Gate, eval.Pass) == len(r.Gate)
		sentences = append(sentences, gateSentence(r.Gate))
	}
	switch e := r.first(); {
	case e == nil:
		sentences = append(sentences, "Its accuracy was not measured.")
	case e.Comparison == nil:
		sentences = append(sentences, fmt.Sprintf("Perplexity %.4g on %s; no base was measured beside it.", e.Perplexity, e.Text))
	default:
		s := fmt.Sprintf("Perplexity on %s changed by %s", e.Text, percent(math.Expm1(e.LnPPLRatio), true))
		if ci := e.CI95; ci != nil {
			s += fmt.Sprintf(" (95 %%: %s to %s)", percent(math.Expm1(ci[0]), true), percent(math.Expm1(ci[1]), true))
		}
		sentences = append(sentences, s+".")
	}
	return Verdict{map[bool]string{true: "PASS", false: "FAIL"}[ok], ok, strings.Join(sentences, " ")}
}

// gateSentence tells budgets that are exceeded from those that nothing could be
// compared for; neither lets the checkpoint pass.
func gateSentence(gate []eval.Verdict) string {
	exceeded, unknown := eval.Count(gate, eval.Fail), eval.Count(gate, eval.NotComparable)
	if exceeded+unknown == 0 {
		return fmt.Sprintf("All %d budgets hold.", len(gate))
	}
	s := fmt.Sprintf("%d of %d budgets are exceeded", exceeded, len(gate))
	if unknown > 0 {
		s += fmt.Sprintf(", %d could not be compared", unknown)
	}
	return s + "."
}

// first is the result that the summary is about, nil without results.
func (r *Report) first() *eval.Report {
	if len(r.Results) == 0 {
		return nil
	}
	return &r.Results[0]
}

// cards are the figures under the verdict.
func (r *Report) cards() []Card {
	var cards []Card
	if e := r.first(); e != nil {
		c := Card{"Perplexity", fixed(e.Perplexity, 3), fmt.Sprintf("%s, %d windows, %s", e.Text, e.Windows, e.Arithmetic)}
		if e.Comparison != nil && e.Base != nil {
			c.Value = fixed(e.Base.Perplexity, 3) + " → " + c.Value
		}
		cards = append(cards, c)
		if e.Comparison != nil {
			note := fmt.Sprintf("no interval: %d of %d windows", e.Windows, eval.MinWindows)
			if ci := e.CI95; ci != nil {
				note = fmt.Sprintf("95 %%: %s to %s", percent(math.Expm1(ci[0]), true), percent(math.Expm1(ci[1]), true))
			}
			cards = append(
				cards,
				Card{"Perplexity change", percent(math.Expm1(e.LnPPLRatio), true), note},
				Card{"KL divergence", fixed(e.KLMean, 4) + " nats", fmt.Sprintf("mean; median %s, 99.9 %% %s", fixed(e.KLMedian, 4), fixed(e.KLP999, 3))},
				Card{"Top-1 agreement", fixed(100*e.Top1Agreement, 1) + " %", "same most likely token"},
			)
		}
	}
	c := Card{"Size", size(r.Bytes.After), "tensor data"}
	if !math.IsNaN(r.Bytes.Before) && r.Bytes.After > 0 {
		c.Value = size(r.Bytes.Before) + " → " + c.Value
		c.Note = fmt.Sprintf("%.2f times smaller", r.Bytes.Before/r.Bytes.After)
	}
	scheme := strings.ToUpper(r.Scheme.String())
	detail := "a scale for each output channel"
	if r.Group > 0 {
		detail = fmt.Sprintf("group size %d, grid %s", r.Group, r.Grid)
	}
	return append(
		cards, c,
		Card{"Weight SNR", fixed(r.SNR, 2) + " dB", fmt.Sprintf("%d linears together", len(r.Layers))},
		Card{"Scheme", scheme, detail},
		Card{"Recipe", r.Recipe, "text under Provenance"},
	)
}

// summary holds what the cards have no room for.
func (r *Report) summary() Section {
	s := Section{ID: "summary", Title: "Summary"}
	loads := Table{Caption: "Where it loads", Columns: columns(text("Runtime"), text("Condition"))}
	for _, w := range r.Runtimes {
		who, what, _ := strings.Cut(w, ": ")
		loads.Rows = append(loads.Rows, []Cell{text(who), text(what)})
	}
	if len(loads.Rows) == 0 {
		s.say("No runtime but this program computes what the checkpoint means; the notes under Fallbacks say why.")
	}
	s.table(loads)
	gate := Table{Caption: "Budgets", Columns: columns(text(""), text("Metric"), text("Text"), number("Value"), number("Limit"), number("Margin"))}
	for _, v := range r.Gate {
		limit := v.Side + " " + judged(v, v.Limit)
		gate.Rows = append(gate.Rows, []Cell{name(gateWord(v.Status)), name(v.Metric.String()), text(v.Text), compared(v), number(limit), number(judged(v, v.Margin))})
	}
	s.table(gate)
	checks := Table{ID: "checks", Caption: "Checks of the bytes", Columns: columns(text(""), text("Item"), text("Detail"))}
	for _, c := range r.Verify.Checks {
		checks.Rows = append(checks.Rows, []Cell{name(word(c.OK)), name(c.Item), text(c.Detail)})
	}
	s.table(checks)
	return s
}

func word(ok bool) string {
	if ok {
		return "PASS"
	}
	return "FAIL"
}

func gateWord(s eval.Status) string {
	if s == eval.NotComparable {
		return "NOT COMPARABLE"
	}
	return word(s == eval.Pass)
}

// compared is the value of a verdict, and the bound that stood for it.
func compared(v eval.Verdict) Cell {
	switch {
	case v.Reason != "":
		return text(v.Reason)
	case v.Bound != nil:
		return number(fmt.Sprintf("%s (bound %s)", judged(v, v.Value), judged(v, *v.Bound)))
	default:
		return number(judged(v, v.Value))
	}
}

// judged has the digits that gate prints: six, and all of bytes.
func judged(v eval.Verdict, x eval.Number) string {
	if v.Metric == recipe.Bytes || math.IsNaN(float64(x)) {
		return exact(float64(x))
	}
	return strconv.FormatFloat(float64(x), 'g', 6, 64)
}

// sizes shows where the bytes are.
func (r *Report) sizes() Section {
	s := Section{ID: "sizes", Title: "Size"}
	s.figure(r.sizeFigure())
	t := Table{Caption: "Tensor data by part", Columns: columns(text("Part"), number("Base"), number("Quantized"), number("Smaller by"))}
	row := func(name string, c Change) {
		factor := none
		if c.Before > 0 && c.After > 0 {
			factor = fmt.Sprintf("%.2f ×", c.Before/c.After)
		}
		t.Rows = append(t.Rows, []Cell{text(name), number(size(c.Before)), number(size(c.After)), number(factor)})
	}
	for _, p := range r.Sizes {
		row(p.Part, p.Change)
	}
	row("all", r.Bytes)
	s.table(t)
	return s
}

// predictions compares what the models say.
func (r *Report) predictions() Section {
	s := Section{ID: "predictions", Title: "Predictions"}
	t := Table{Caption: "Measured by eval", Columns: columns(
		text("Model"), text("Arithmetic"), text("Text"), number("Perplexity"), number("Change"), number("95 % interval"), number("KL mean"), number("KL 99.9 %"), number("Top-1"))}
	seen := map[string]bool{} // texts whose base has its row
	for _, e := range r.Results {
		if c := e.Comparison; c != nil && c.Base != nil && !seen[e.Text] {
			seen[e.Text] = true
			b := c.Base
			t.Rows = append(t.Rows, []Cell{text(b.Model), text(b.Arithmetic), text(b.Text), number(fixed(b.Perplexity, 4)), number(""), number(""), number(""), number(""), number("")})
		}
		row := []Cell{text(e.Model), text(e.Arithmetic), text(e.Text), number(fixed(e.Perplexity, 4))}
		if c := e.Comparison; c == nil {
			row = append(row, number(none), number(none), number(none), number(none), number(none))
		} else {
			ci := none
			if c.CI95 != nil {
				ci = percent(math.Expm1(c.CI95[0]), true) + " to " + percent(math.Expm1(c.CI95[1]), true)
			}
			row = append(row, number(percent(math.Expm1(c.LnPPLRatio), true)), number(ci), number(fixed(c.KLMean, 5)), number(fixed(c.KLP999, 4)), number(percent(c.Top1Agreement, false)))
		}
		t.Rows = append(t.Rows, row)
	}
	s.table(t)
	if e := r.first(); e != nil {
		s.say("%s", e.Protocol)
		s.figure(windowFigure(e))
	}
	return s
}
