package captured

import (
	"cmp"
	"fmt"

	"quantize/kernels"
)

// Log is the part of a test that Report needs.
type Log interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// smallest is the least cosine similarity to exact attention that a layer may have in the
// first of formats. Of the others the numbers are printed: without the Hadamard matrix a
// few layers of SmolLM2 are below, and smooth V costs where most of a query's attention is on
// a token with small values, as the first.
const smallest = 0.999

var formats = []kernels.AttentionFormat{
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true, Hadamard: true},
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true, SmoothV: true},
	{Mode: kernels.AttentionFP8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt4, Granularity: kernels.PerThread, SmoothK: true},
}

func name(f kernels.AttentionFormat) string {
	return fmt.Sprintf("%-7v smooth V %-5v hadamard %-5v", f.Mode, f.SmoothV, f.Hadamard)
}

// Report logs what each format costs in each layer and fails where the first costs too much.
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
			t.Logf("layer %2d, %s  cosine %.5f, relative L1 %.4f", n, name(f), cosine, l1)
			if f == formats[0] && !(cosine >= smallest) {
				t.Errorf("layer %d, %s: cosine %.5f, want at least %v", n, name(f), cosine, smallest)
			}
			least[f] = min(cosine, cmp.Or(least[f], 1))
		}
	}
	for _, f := range formats {
		t.Logf("least,    %s  cosine %.5f", name(f), least[f])
	}
}
