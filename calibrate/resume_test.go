package calibrate

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/checkpoint"
	"quantize/model"
)

// A run that is ended after any block and taken up again gives the same sums, and
// no block twice.
func TestCollectResumes(t *testing.T) {
	t.Parallel()
	m, windows := random(t, nil)
	points := []model.Point{model.AttnIn, model.KPost}
	whole, err := Collect(t.Context(), m, windows, Options{Points: points, Hessians: points})
	if err != nil {
		t.Fatal(err)
	}
	var want []float64 // of the caller
	for _, s := range whole.Sites {
		want = append(want, s.Hessian.Data[0])
	}
	ended := errors.New("ended")
	for _, end := range []int{1, m.Config.Layers, m.Config.Layers + 1} {
		j, err := checkpoint.OpenJournal(filepath.Join(t.TempDir(), "out"), func(m string) { t.Error(m) })
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Begin(nil, false); err != nil {
			t.Fatal(err)
		}
		var got []float64
		seen := 0
		o := Options{Points: points, Hessians: points, OnSites: func(sites []*SiteStats) error {
			if seen++; seen == end {
				return ended
			}
			for _, s := range sites {
				got = append(got, s.Hessian.Data[0])
			}
			return nil
		}}
		o.Phase = &Phase{
			Journal: j, Key: "statistics",
			Save:    func() ([]byte, error) { return Encode(got) },
			Restore: func(data []byte) error { return Decode(data, &got) },
		}
		if _, err := Collect(t.Context(), m, windows, o); end <= m.Config.Layers && !errors.Is(err, ended) {
			t.Fatalf("ended at block %d: %v", end, err)
		}
		got, seen, end = nil, 0, 0
		s, err := Collect(t.Context(), m, windows, o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("sums %v, want %v", got, want)
		}
		for i := range whole.Sites {
			w := whole.Sites[i]
			w.Hessian = nil
			if diff := cmp.Diff(w, s.Sites[i]); diff != "" {
				t.Errorf("site %v (-whole +resumed):\n%s", w.Site, diff)
			}
		}
		if err := j.Done(); err != nil {
			t.Error(err)
		}
	}
}
