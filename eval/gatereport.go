package eval

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"quantize/recipe"
)

// GateText is the table of verdicts for a terminal, a line each.
func GateText(verdicts []Verdict) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\tmetric\ttext\tvalue\tlimit\tmargin") // a Builder does not fail
	for _, v := range verdicts {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s %s\t%s\n", v.word(), v.Metric, v.Text, v.value(), v.Side, v.number(v.Limit), v.margin())
	}
	_ = w.Flush()
	return b.String()
}

// GateMarkdown is the verdict on model as a GitHub table, short enough for a
// comment on a pull request.
func GateMarkdown(model string, verdicts []Verdict) string {
	var b strings.Builder
	n, word := Exceeded(verdicts), "passed"
	if n > 0 {
		word = "failed"
	}
	fmt.Fprintf(&b, "**Accuracy gate: %s** (%s, %d of %d budgets exceeded)\n\n", word, cell(model), n, len(verdicts))
	b.WriteString("| | metric | text | value | limit | margin |\n|---|---|---|---:|---:|---:|\n")
	for _, v := range verdicts {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s %s | %s |\n", v.word(), v.Metric, cell(v.Text), v.value(), v.Side, v.number(v.Limit), v.margin())
	}
	return b.String()
}

// cell keeps a name from ending its cell or its line.
func cell(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "\n", " ", "\r", " ").Replace(s)
}

// junitSuites and those below are the JUnit format as CI systems read it.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
}

// GateJUnit is the verdict on model as JUnit XML, a test case for each budget.
func GateJUnit(model string, verdicts []Verdict) []byte {
	suite := junitSuite{Name: "quantize gate", Tests: len(verdicts), Failures: Exceeded(verdicts)}
	for _, v := range verdicts {
		c := junitCase{Class: model, Name: fmt.Sprintf("%s %s %s", v.Metric, v.Side, v.number(v.Limit))}
		if v.Text != "" {
			c.Name += " on " + v.Text
		}
		if !v.OK {
			c.Failure = &junitFailure{Type: v.Metric.String(), Message: v.failure()}
		}
		suite.Cases = append(suite.Cases, c)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	enc := xml.NewEncoder(&b)
	enc.Indent("", "  ")
	if err := enc.Encode(junitSuites{Suites: []junitSuite{suite}}); err != nil {
		panic("eval: verdicts do not encode: " + err.Error())
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func (v Verdict) failure() string {
	return fmt.Sprintf("value %s, limit %s %s, margin %s", v.value(), v.Side, v.number(v.Limit), v.margin())
}

// margin is the margin, or why there is none.
func (v Verdict) margin() string {
	if v.Reason != "" {
		return "none: " + v.Reason
	}
	return v.number(float64(v.Margin))
}

func (v Verdict) word() string {
	if v.OK {
		return "PASS"
	}
	return "FAIL"
}

// value is the value and, where another number was compared, that.
func (v Verdict) value() string {
	s := v.number(float64(v.Value))
	if v.Bound != nil {
		s += " (95 % bound " + v.number(float64(*v.Bound)) + ")"
	}
	return s
}

// number has the digits a reader compares by; bytes are whole.
func (v Verdict) number(x float64) string {
	if v.Metric == recipe.Bytes {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', 6, 64)
}
