package eval

import (
	"fmt"
	"slices"
	"strings"
)

// GitHub takes 65,536 characters for a comment; others may put theirs around the table.
const (
	markdownLimit = 60_000
	titleLimit    = 1_000 // of the names of checkpoints above the table
)

// GateMarkdown is the verdict on model as a GitHub table, short enough for a comment on a
// pull request: what did not pass comes first, and what has no room is counted.
func GateMarkdown(model string, verdicts []Verdict) string {
	var b strings.Builder
	word := "passed"
	if Count(verdicts, Pass) < len(verdicts) {
		word = "failed"
	}
	head, row := columns(verdicts)
	fmt.Fprintf(&b, "**Accuracy gate: %s** (%s, %s)\n\n| | %s |\n|---|", word, cell(shortened(model, titleLimit)), GateSummary(verdicts), strings.Join(head, " | "))
	for _, h := range head {
		if h == "model" || h == "metric" || h == "text" {
			b.WriteString("---|")
		} else {
			b.WriteString("---:|")
		}
	}
	b.WriteByte('\n')
	sorted := slices.Clone(verdicts)
	slices.SortStableFunc(sorted, func(a, b Verdict) int { return a.rank() - b.rank() })
	for i, v := range sorted {
		cells := row(v)
		for i := range cells {
			cells[i] = cell(cells[i])
		}
		line := fmt.Sprintf("| %s | %s |\n", v.word(), strings.Join(cells, " | "))
		rest := fmt.Sprintf("\nand %d more\n", len(sorted)-i)
		if b.Len()+len(line)+len(rest) >= markdownLimit { // the rest has to fit after the line too
			b.WriteString(rest)
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// rank orders verdicts by how much their reader has to do.
func (v Verdict) rank() int {
	return slices.Index([]Status{Fail, NotComparable, Pass}, v.Status)
}

// shortened is s, or its beginning where it has more than n bytes.
func shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " ..."
}

// cell keeps a name from ending its cell or its line.
func cell(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "\n", " ", "\r", " ").Replace(s)
}
