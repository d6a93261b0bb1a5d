package captured

import (
	"cmp"

	"quantize/kernels"
)

// Log is the part of a test that Report needs.
type Log interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// smallest is the least cosine similarity to exact attention that a layer in int8-qk may
// have; E4M3 probabilities and values cost most of what is missing.
const smallest = 0.999

var formats = []kernels.AttentionFormat{
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true, SmoothV: true},
	{Mode: kernels.AttentionFP8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt4, Granularity: kernels.PerThread, SmoothK: true},
}

// Report logs what each format costs in each layer; int8-qk must not cost more than it may.
func Report(t Log, b kernels.Attender, h Header, layers []Layer) {
	t.Helper()
	least := map[kernels.AttentionFormat]float64{}
	for n, l := range layers {
		want := exact(h, l)
		for _, f := range formats {
			cosine, l1, err := compare(b, h, l, f, want)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("layer %2d, %-7v smooth V %-5v  cosine %.5f, relative L1 %.4f", n, f.Mode, f.SmoothV, cosine, l1)
			if f.Mode == kernels.AttentionInt8 && !(cosine >= smallest) {
				t.Errorf("layer %d, %v: cosine %.5f, want at least %v", n, f.Mode, cosine, smallest)
			}
			least[f] = min(cosine, cmp.Or(least[f], 1))
		}
	}
	for _, f := range formats {
		t.Logf("least, %-7v smooth V %-5v  cosine %.5f", f.Mode, f.SmoothV, least[f])
	}
}
