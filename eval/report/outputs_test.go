package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The section is there when the manifest has the figures, of as many linears as
// it has them of, and the figures are in the tables as they are in the manifest.
func TestOutputs(t *testing.T) {
	t.Parallel()
	r := full(t)
	if s := r.outputs(); !s.empty() {
		t.Errorf("rounded to nearest: %+v", s)
	}
	for i := range 7 {
		snr, cosine := 20.25-float64(i), 0.9876-float64(i)/1000
		r.Layers[i].OutputSNR, r.Layers[i].OutputCosine = &snr, &cosine
	}
	r.Layers[2].OutputSNR = nil // nothing was lost
	root := parse(t, render(t, r))
	var figures int
	for _, s := range root.find("section") {
		if s.attr["id"] == "outputs" {
			figures = len(s.find("figure"))
		}
	}
	if figures != 2 {
		t.Errorf("%d figures, want 2", figures)
	}
	var want [][]string
	for i, v := range [][]string{{"14.25", "0.9816"}, {"15.25", "0.9826"}, {"16.25", "0.9836"}, {"17.25", "0.9846"}, {"19.25", "0.9866"}} {
		layer := []int{6, 5, 4, 3, 1}[i]
		want = append(want, append([]string{r.Layers[layer].Name}, v...))
	}
	got := root.rows("worst-outputs")
	for _, row := range got {
		row[2] = row[2][:min(6, len(row[2]))] // 0.9876-i/1000 is not a decimal
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
