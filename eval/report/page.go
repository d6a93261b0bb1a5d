package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"

	"quantize/eval/report/chart"
)

//go:embed page.gohtml
var pageSource string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// HTML writes the report as one page.
func (r *Report) HTML() ([]byte, error) {
	p := page{Title: r.Name, Style: template.CSS(pageStyle), Verdict: r.verdict(), Cards: r.cards()}
	for _, s := range []Section{
		r.summary(), r.sizes(), r.predictions(), r.errors(), r.outputs(), r.channels(), r.activations(), r.scales(),
		r.attention(), r.rounding(), r.calibration(), r.fallbacks(), r.provenance(), r.numbers(),
	} {
		if !s.empty() {
			p.Sections = append(p.Sections, s)
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("report of %s: %w", r.Name, err)
	}
	return b.Bytes(), nil
}

// page is what the template shows.
type page struct {
	Title    string
	Style    template.CSS
	Verdict  Verdict
	Cards    []Card
	Sections []Section
}

// Verdict is the first sentence of the page.
type Verdict struct {
	Word     string // PASS or FAIL
	OK       bool
	Sentence string
}

// Card is a figure of the summary.
type Card struct{ Label, Value, Note string }

// Section is a part of the page; a part without a figure, a table or text is left out.
type Section struct {
	ID, Title string
	Lead      []string
	Figures   []Figure
	Tables    []Table
	Pre       string
}

func (s *Section) empty() bool {
	return len(s.Lead) == 0 && len(s.Figures) == 0 && len(s.Tables) == 0 && s.Pre == ""
}

// figure adds a plot, unless nothing could be drawn.
func (s *Section) figure(f Figure) {
	if f.SVG != "" {
		s.Figures = append(s.Figures, f)
	}
}

// table adds a table, unless it has no rows.
func (s *Section) table(t Table) {
	if len(t.Rows) > 0 {
		s.Tables = append(s.Tables, t)
	}
}

func (s *Section) say(format string, args ...any) {
	s.Lead = append(s.Lead, fmt.Sprintf(format, args...))
}

// Figure is a plot with its legend.
type Figure struct {
	Title, Caption string
	Legend         []Key
	SVG            template.HTML
	Wide           bool // as wide as the page
}

// Key is a line of a legend.
type Key struct {
	Sign template.HTML
	Name string
}

// legend names the series of a plot; one needs no name.
func legend(series []chart.Series) []Key {
	if len(series) < 2 {
		return nil
	}
	var keys []Key
	for i, s := range series {
		keys = append(keys, Key{chart.Swatch(i), s.Name})
	}
	return keys
}

// Table is a table of the page.
type Table struct {
	ID      string // "": not one that tests and readers look for
	Caption string
	Columns []Cell // Number: as the cells below
	Rows    [][]Cell
}

func columns(cells ...Cell) []Cell { return cells }
