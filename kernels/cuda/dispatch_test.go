package cuda

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quantize/packer"
)

// Every rule names kernels that were built, for the codings of its arithmetic and
// both group sizes.
func TestRulesNameKernels(t *testing.T) {
	t.Parallel()
	m := BuiltKernels()
	for i, r := range Table() {
		codings := map[string][]string{"exact": {"signed7", "signed8"}, "lut": {"table"}}[r.Arithmetic]
		if codings == nil {
			t.Errorf("rule %d: arithmetic %q", i, r.Arithmetic)
		}
		for _, group := range []int{128, 64} {
			for _, codes := range codings {
				name := r.kernel(codes, group)
				k, ok := m.gemm(name)
				if !ok {
					t.Errorf("rule %d wants %s, which is not in the manifest", i, name)
				} else if k.Tokens != r.Tokens || r.Decode() && k.Channels != 64*r.Wide || !r.Decode() && k.Cluster != r.Cluster {
					t.Errorf("rule %d: %s has shape %+v", i, name, k)
				}
			}
		}
		if r.Decode() && (r.Split < 1 || r.Split > min(8, r.Tokens/2) || r.Split&(r.Split-1) != 0) {
			t.Errorf("rule %d: split of %d", i, r.Split)
		}
	}
}

// Any shape has a kernel, and its split leaves no block without a slab.
func TestDispatchIsTotal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.IntRange(1, 20000).Draw(t, "M")
		n := rapid.IntRange(1, 60000).Draw(t, "N")
		k := 64 * rapid.IntRange(1, 500).Draw(t, "K/64")
		c := Dispatch(m, n, k, rapid.SampledFrom([]packer.Arithmetic{packer.Exact, packer.LUT}).Draw(t, "arithmetic"))
		if c.Decode() && (c.Split < 1 || c.Split > ceilDiv(k, slab)) {
			t.Fatalf("split %d of %d slabs", c.Split, ceilDiv(k, slab))
		}
	})
}

func ExamplePrintTable() {
	var b strings.Builder
	PrintTable(&b)
	fmt.Println(strings.Fields(b.String())[:5])
	// Output: [arithmetic M N K kernel]
}
