package eval

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// speed is what differs between two runs of one evaluation.
var speed = cmpopts.IgnoreFields(Result{}, "Seconds", "TokensPerSecond", "Cached")

// three is a base with an ID, a candidate and two texts of 11 and 3 windows.
func three(t *testing.T) (base, other Candidate, texts []Text) {
	t.Helper()
	base, _ = candidate(t, 0)
	other, _ = candidate(t, 0.05)
	base.ID = "base"
	tokens := textOf(base, 14)
	return base, other, []Text{{Name: "a", Tokens: tokens[:11*window+2]}, {Name: "b", Tokens: tokens[11*window:]}}
}

func evaluated(t *testing.T, base Candidate, candidates []Candidate, texts []Text, o Options) [][]Report {
	t.Helper()
	o.Window = window
	got, err := Compare(t.Context(), base, candidates, texts, o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func cacheIn(t *testing.T, dir string) *Cache {
	t.Helper()
	return &Cache{Dir: dir, Limit: 1 << 20, Warn: func(err error) { t.Errorf("cache: %v", err) }}
}

// Several texts and candidates in one pass give what each gives alone.
func TestOnePassEqualsManyRuns(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	together := evaluated(t, base, []Candidate{other, base}, texts, Options{HiddenBytes: int64(3 * 4 * 3 * window * base.Model.Config.Hidden)})
	for i, text := range texts {
		for j, c := range []Candidate{other, base} {
			alone := evaluated(t, base, []Candidate{c}, []Text{text}, Options{})
			if diff := cmp.Diff(alone[0][0], together[i][j], speed); diff != "" {
				t.Errorf("text %s, candidate %d:\n%s", text.Name, j, diff)
			}
		}
	}
}

// A run that finds the base in the cache has the same bits as one without it,
// also where the cache has only one of the texts.
func TestCacheGivesTheSameBits(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	want := evaluated(t, base, []Candidate{other}, texts, Options{})
	o := Options{Cache: cacheIn(t, filepath.Join(t.TempDir(), "new", "cache"))}
	evaluated(t, base, []Candidate{other}, texts[1:], o)
	for run, cached := range [][]bool{{false, true}, {true, true}} {
		got := evaluated(t, base, []Candidate{other}, texts, o)
		if diff := cmp.Diff(want, got, speed); diff != "" {
			t.Errorf("run %d:\n%s", run, diff)
		}
		for i := range texts {
			if b := got[i][0].Base; b.Cached != cached[i] || b.Seconds <= 0 || b.TokensPerSecond <= 0 {
				t.Errorf("run %d, text %d: %+v", run, i, b)
			}
		}
	}
}

func TestWithoutKL(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	want := evaluated(t, base, []Candidate{other}, texts, Options{})
	// Too small for hidden states: NLL and argmax alone are kept.
	c := cacheIn(t, t.TempDir())
	c.Limit = 4000
	for run, cached := range []bool{false, true} {
		got := evaluated(t, base, []Candidate{other}, texts, Options{WithoutKL: true, Cache: c})
		for i := range texts {
			g, w := got[i][0], want[i][0]
			if !math.IsNaN(g.KLMean) || !math.IsNaN(g.KLMedian) || !math.IsNaN(g.KLP999) {
				t.Errorf("a divergence that was not measured: %+v", g.Comparison)
			}
			g.KLMean, g.KLMedian, g.KLP999 = w.KLMean, w.KLMedian, w.KLP999
			if diff := cmp.Diff(w, g, speed); diff != "" {
				t.Errorf("run %d:\n%s", run, diff)
			}
			if g.Base.Cached != cached {
				t.Errorf("run %d, text %d: cached %v", run, i, g.Base.Cached)
			}
		}
	}
	// What was kept does not do for a divergence.
	if got := evaluated(t, base, []Candidate{other}, texts, Options{Cache: c}); got[0][0].Base.Cached || got[0][0].KLMean != want[0][0].KLMean {
		t.Errorf("%+v", got[0][0])
	}
}

// Whatever decides the result decides the name of the record.
func TestCacheMisses(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	c := cacheIn(t, t.TempDir())
	evaluated(t, base, []Candidate{other}, texts[:1], Options{Cache: c})
	for name, change := range map[string]func(b *Candidate, text *Text, o *Options){
		"other weights":    func(b *Candidate, _ *Text, _ *Options) { b.ID = "another" },
		"other arithmetic": func(b *Candidate, _ *Text, _ *Options) { b.Arithmetic = "lut" },
		"other text": func(_ *Candidate, t *Text, _ *Options) {
			t.Tokens = append([]int32{t.Tokens[0] ^ 1}, t.Tokens[1:]...)
		},
		"fewer windows": func(_ *Candidate, _ *Text, o *Options) { o.Windows = 10 },
		"no identity":   func(b *Candidate, _ *Text, _ *Options) { b.ID = "" },
	} {
		b, text, o := base, texts[0], Options{Cache: c}
		change(&b, &text, &o)
		if evaluated(t, b, []Candidate{other}, []Text{text}, o)[0][0].Base.Cached {
			t.Errorf("%s: the record of another run is used", name)
		}
	}
}

// A changed byte anywhere, or a cut file, is found; the base is run again and
// the record replaced.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	dir := t.TempDir()
	warned := ""
	c := &Cache{Dir: dir, Limit: 1 << 20, Warn: func(err error) { warned += err.Error() }}
	o := Options{Cache: c}
	want := evaluated(t, base, []Candidate{other}, texts[:1], o)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	sound, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 20, len(sound) / 2, len(sound) - 40, len(sound) - 1, -1} {
		bad := append([]byte{}, sound...)
		if at < 0 {
			bad = bad[:len(bad)-5]
		} else {
			bad[at] ^= 4
		}
		if err := os.WriteFile(files[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		warned = ""
		got := evaluated(t, base, []Candidate{other}, texts[:1], o)
		if diff := cmp.Diff(want, got, speed); diff != "" || got[0][0].Base.Cached || !strings.Contains(warned, files[0]) {
			t.Errorf("byte %d: warned %q\n%s", at, warned, diff)
		}
		if !evaluated(t, base, []Candidate{other}, texts[:1], o)[0][0].Base.Cached {
			t.Errorf("byte %d: the record is not replaced", at)
		}
	}
}

func TestCacheKeepsItsLimit(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	dir := t.TempDir()
	c := cacheIn(t, dir)
	c.Limit = recordShape{11, window, base.Model.Config.Hidden}.size(true) + 100
	stale := filepath.Join(dir, ".x"+recordSuffix+".tmp-abc")
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(stale, time.Now(), time.Now().Add(-2*staleAfter)); err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"1", "2", "3"} {
		base.ID = id
		evaluated(t, base, []Candidate{other}, texts[:1], Options{Cache: c})
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != 1 {
			t.Errorf("after %d records: %v, %v", i+1, files, err)
		}
	}
	if !evaluated(t, base, []Candidate{other}, texts[:1], Options{Cache: c})[0][0].Base.Cached {
		t.Error("the last record is not the one that stayed")
	}
	c.Limit = 10
	if evaluated(t, base, []Candidate{other}, texts[1:], Options{Cache: c})[0][0].Base.Cached {
		t.Error("a record larger than the cache")
	}
}

// A cache that cannot be used costs its speed and nothing else.
func TestUnusableCache(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	warned := 0
	c := &Cache{Dir: filepath.Join(file, "cache"), Limit: 1 << 20, Warn: func(error) { warned++ }}
	want := evaluated(t, base, []Candidate{other}, texts, Options{})
	got := evaluated(t, base, []Candidate{other}, texts, Options{Cache: c})
	if diff := cmp.Diff(want, got, speed); diff != "" || warned == 0 {
		t.Errorf("warned %d times\n%s", warned, diff)
	}
}

// Runs that share a directory find whole records or none.
func TestConcurrentRunsShareACache(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	want := evaluated(t, base, []Candidate{other}, texts, Options{})
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			c := cacheIn(t, dir)
			c.Limit = recordShape{11, window, base.Model.Config.Hidden}.size(true) + 100 // each evicts the other's
			for range 4 {
				got, err := Compare(t.Context(), base, []Candidate{other}, texts, Options{Window: window, Cache: c})
				if err != nil {
					t.Error(err)
					return
				}
				if diff := cmp.Diff(want, got, speed); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	wg.Wait()
}

func TestNoText(t *testing.T) {
	t.Parallel()
	base, _, _ := three(t)
	if _, err := Perplexity(t.Context(), []Candidate{base}, nil, Options{}); err == nil {
		t.Error("no text and no error")
	}
}

// A third of the time may be the head's: progress goes on while it scores.
func TestProgressCountsTheHead(t *testing.T) {
	t.Parallel()
	base, other, texts := three(t)
	steps, last := 0, int64(0)
	evaluated(t, base, []Candidate{other}, texts, Options{OnProgress: func(done, total int64) {
		if done <= last || total != 1000 {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		steps, last = steps+1, done
	}})
	layers := base.Model.Config.Layers
	if steps <= 2*layers+10 || last != 1000 {
		t.Errorf("%d steps of %d blocks and 14 windows, the last at %d", steps, 2*layers, last)
	}
}
