package calibrate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func count(n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(i)
	}
	return tokens
}

func TestWindows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tokens, window, n int
		want              [][]int32
	}{
		"all, remainder dropped":  {7, 3, 0, [][]int32{{0, 1, 2}, {3, 4, 5}}},
		"more than there are":     {6, 3, 9, [][]int32{{0, 1, 2}, {3, 4, 5}}},
		"as many as there are":    {4, 2, 2, [][]int32{{0, 1}, {2, 3}}},
		"shorter than one window": {2, 3, 0, [][]int32{}},
		"no window":               {5, 0, 0, nil},
		"negative number":         {5, 1, -1, nil},
	} {
		if diff := cmp.Diff(c.want, Windows(count(c.tokens), c.window, c.n, 1)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A recipe's seed must give the same windows in every version of the program.
func TestWindowsOfASeedAreFixed(t *testing.T) {
	t.Parallel()
	var first []int32
	for _, w := range Windows(count(200), 2, 6, 42) {
		first = append(first, w[0]/2)
	}
	if diff := cmp.Diff([]int32{22, 38, 77, 81, 87, 88}, first); diff != "" {
		t.Errorf("windows of seed 42 (-want +got):\n%s", diff)
	}
}

func TestWindowsSample(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		window, total := rapid.IntRange(1, 9).Draw(t, "window"), rapid.IntRange(1, 60).Draw(t, "total")
		n, seed := rapid.IntRange(1, total).Draw(t, "n"), rapid.Uint64().Draw(t, "seed")
		windows := Windows(count(window*total+window-1), window, n, seed)
		if len(windows) != n {
			t.Fatalf("%d windows, want %d", len(windows), n)
		}
		last := int32(-1)
		for _, w := range windows {
			if len(w) != window || cap(w) != window || w[0]%int32(window) != 0 || w[0] <= last {
				t.Fatalf("window %v after one that starts at %d", w, last)
			}
			last = w[0]
		}
	})
}

// Each window is as likely as the others: 4000 samples of 3 in 12 give each one
// 1000 times, standard deviation 27.
func TestWindowsSampleEvenly(t *testing.T) {
	t.Parallel()
	hits := make([]int, 12)
	for seed := range uint64(4000) {
		for _, w := range Windows(count(12), 1, 3, seed) {
			hits[w[0]]++
		}
	}
	for i, n := range hits {
		if n < 860 || n > 1140 {
			t.Errorf("window %d was taken %d times of 4000, want about 1000", i, n)
		}
	}
}
