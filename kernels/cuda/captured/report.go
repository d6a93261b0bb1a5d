package captured

import (
	"cmp"

	"quantize/kernels"
	"quantize/kernels/ref"
)

// Log is the part of a test that Report needs.
type Log interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// A layer in int8-qk whose cosine similarity to exact attention is under `smallest` must owe
// it to the format: the twin is then no more than `slack` better. Smooth V is left out: it
// costs where most of a query's attention is on a token with small values, as the first.
const smallest, slack = 0.999, 1e-4

var formats = []kernels.AttentionFormat{
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true, SmoothV: true},
	{Mode: kernels.AttentionFP8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt4, Granularity: kernels.PerThread, SmoothK: true},
}

// Report logs what each format costs in each layer and fails where it is an implementation's
// fault.
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
			if f == formats[0] && !(cosine >= smallest) {
				twin, _, err := compare(ref.New(), h, l, f, want)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("layer %2d is below %v, the twin has %.5f", n, smallest, twin)
				if !(cosine >= twin-slack) {
					t.Errorf("layer %d, %v: cosine %.5f, want the twin's %.5f", n, f.Mode, cosine, twin)
				}
			}
			least[f] = min(cosine, cmp.Or(least[f], 1))
		}
	}
	for _, f := range formats {
		t.Logf("least, %-7v smooth V %-5v  cosine %.5f", f.Mode, f.SmoothV, least[f])
	}
}
