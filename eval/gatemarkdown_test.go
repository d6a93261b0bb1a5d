package eval

import (
	"fmt"
	"strings"
	"testing"

	"quantize/recipe"
)

// A comment on GitHub has at most 65,536 characters: what did not pass is in it.
func TestMarkdownFitsAComment(t *testing.T) {
	t.Parallel()
	var verdicts []Verdict
	var models []string
	for i := range 2000 {
		v := Verdict{Model: fmt.Sprintf("model-%04d", i), Metric: recipe.KLMean, Text: "wiki|text.txt", Side: "max", Limit: 1, Status: Pass, OK: true}
		switch i {
		case 1000:
			v.Status, v.OK, v.Reason = NotComparable, false, "the value is not a number"
		case 1999:
			v.Status, v.OK = Fail, false
		}
		verdicts, models = append(verdicts, v), append(models, v.Model)
	}
	got := GateMarkdown(strings.Join(models, ", "), verdicts)
	if len(got) >= markdownLimit || len(got) < markdownLimit-1000 {
		t.Errorf("%d bytes", len(got))
	}
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	shown := len(lines) - 6 // title, blank, head, rule; blank, rest
	if want := fmt.Sprintf("and %d more", 2000-shown); lines[len(lines)-1] != want || lines[len(lines)-2] != "" {
		t.Errorf("ends in %q, want %q", lines[len(lines)-1], want)
	}
	if !strings.Contains(lines[0], "failed** (model-0000, ") || !strings.Contains(lines[0], " ..., 1 of 2000 budgets exceeded, 1 not comparable)") {
		t.Error(lines[0])
	}
	for i, want := range []string{"| FAIL | model-1999 ", "| NOT COMPARABLE | model-1000 ", "| PASS | model-0000 ", "| PASS | model-0001 "} {
		if !strings.HasPrefix(lines[4+i], want) {
			t.Errorf("line %d is %q, want %q", 4+i, lines[4+i], want)
		}
	}
	for i := range verdicts { // names of any length
		verdicts[i].Text = strings.Repeat("é|", i)
	}
	if got := GateMarkdown("m", verdicts); len(got) >= markdownLimit || !strings.HasSuffix(got, " more\n") {
		t.Errorf("%d bytes, %q", len(got), got[len(got)-20:])
	}
	if got := GateMarkdown("m", verdicts[:50]); strings.Contains(got, "more") {
		t.Error("fifty verdicts are not all there")
	}
}
