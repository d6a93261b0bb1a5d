package report

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/recipe"
)

// pair writes a random model and its export by a built-in recipe's text, and opens
// both. A sidecar goes with it where there is one.
func pair(t testing.TB, scheme packer.Scheme, sidecar *packer.Sidecar) (base, out *checkpoint.Reader) {
	t.Helper()
	dir := t.TempDir()
	shape := modeltest.Shape{
		Name: "tiny", Family: "llama", Hidden: 128, Intermediate: 256, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 64, Vocab: 96,
		Tied: true, Config: map[string]any{"max_position_embeddings": 64},
	}
	if err := os.Mkdir(filepath.Join(dir, "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := modeltest.Random(1, shape).Write(filepath.Join(dir, "base")); err != nil {
		t.Fatal(err)
	}
	base = open(t, filepath.Join(dir, "base"))
	cfg, err := model.ParseConfig(base.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("rtn")
	if err != nil {
		t.Fatal(err)
	}
	o := packer.ExportOptions{
		Model: cfg, Scheme: scheme, Recipe: string(r.Encode()), Tool: "test",
		Int4: packer.Int4Options{Grid: packer.GridLUT}, Calibration: packer.NewCalibration([][]int32{{1, 2, 3}}),
		Rounding: rounding(cfg.Layers),
	}
	if sidecar != nil {
		data, err := packer.EncodeSidecar(sidecar)
		if err != nil {
			t.Fatal(err)
		}
		o.Files = map[string][]byte{packer.SidecarPath: data}
		if sidecar.Down != "" {
			o.Private = "the input of down_proj is rotated at run time"
		}
	}
	if _, err := packer.Export(context.Background(), base, filepath.Join(dir, "out"), o); err != nil {
		t.Fatal(err)
	}
	return base, open(t, filepath.Join(dir, "out"))
}

// rounding is what a run might have measured; of the last layer's scores nothing was.
func rounding(layers int) *packer.Rounding {
	r := &packer.Rounding{Tokens: 3}
	for layer := range layers {
		db := float64(layer)
		r.Inputs = append(r.Inputs, packer.InputRounding{Layer: layer, Point: "o_in", Fidelity: packer.NewFidelity(1000+db, 999, 1, 999)})
		plain := packer.NewFidelity(10+db, 9, 1, 9)
		c := packer.CacheRounding{Layer: layer, Scores: packer.NewFidelity(100+db, 99, 1, 99), UnscaledScores: &plain, Values: packer.NewFidelity(200+db, 199, 1, 199)}
		if layer == layers-1 {
			c.UnscaledScores = nil
		}
		r.Cache = append(r.Cache, c)
	}
	return r
}

func open(t testing.TB, dir string) *checkpoint.Reader {
	t.Helper()
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// reading is a result of eval as it might be.
func reading() eval.Report {
	base := eval.Result{Model: "base", Text: "a.txt", Arithmetic: "bf16", Window: 64, Windows: 12, Tokens: 768, NLL: 3, Perplexity: math.Exp(3), Protocol: "GPTQ"}
	r := eval.Report{Result: base, Comparison: &eval.Comparison{
		Base: &base, KLMean: 0.0123456789, KLMedian: 0.01, KLP999: 0.7, Top1Agreement: 0.875, LnPPLRatio: 0.02,
		CI95: &[2]float64{0.011, 0.029}, WindowLnRatio: []float64{0.01, 0.03, -0.01, 0.02},
	}}
	r.Model, r.Arithmetic, r.Perplexity = "out", "lut", math.Exp(3.02)
	return r
}

// element is a parsed element of a page.
type element struct {
	name     string
	attr     map[string]string
	text     string // of it and all below
	children []*element
}

// parse reads a page as XML that closes HTML's void elements: stricter than a browser.
func parse(t testing.TB, page []byte) *element {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	root := &element{}
	stack := []*element{root}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attr: map[string]string{}}
			for _, a := range token.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			top := stack[len(stack)-1]
			top.children = append(top.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			if got := stack[len(stack)-1].name; got != token.Name.Local {
				t.Fatalf("</%s> closes <%s>", token.Name.Local, got)
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			for _, e := range stack {
				e.text += string(token)
			}
		}
	}
	if len(stack) != 1 {
		t.Fatalf("<%s> is not closed", stack[len(stack)-1].name)
	}
	return root
}

// find lists the elements with that name, in order.
func (e *element) find(name string) []*element {
	var all []*element
	for _, c := range e.children {
		if c.name == name {
			all = append(all, c)
		}
		all = append(all, c.find(name)...)
	}
	return all
}

// rows are the texts of the cells of the table with that id, header left out.
func (e *element) rows(id string) [][]string {
	for _, table := range e.find("table") {
		if table.attr["id"] != id {
			continue
		}
		var rows [][]string
		for _, tr := range table.find("tr")[1:] {
			var row []string
			for _, td := range tr.find("td") {
				row = append(row, strings.TrimSpace(td.text))
			}
			rows = append(rows, row)
		}
		return rows
	}
	return nil
}

func isInvalid(err error) bool { return errors.Is(err, packer.ErrInvalid) }
