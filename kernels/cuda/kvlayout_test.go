package cuda

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quantize/kernels/ref"
)

// Every nibble and every parameter of a record has one owner, and no two tokens share a
// byte: what is appended touches nobody else's.
func TestKVPlacesAreABijection(t *testing.T) {
	t.Parallel()
	for _, l := range kvLayouts() {
		owners := make([]int, l.RecordBytes()) // 1 + the token
		nibbles := map[[2]int]bool{}
		own := func(at, token int) {
			if owners[at] != 0 && owners[at] != token+1 {
				t.Fatalf("%v: byte %d belongs to tokens %d and %d", l, at, owners[at]-1, token)
			}
			owners[at] = token + 1
		}
		for token := range kvBlock {
			for d := range l.HeadDim {
				for _, at := range []int{l.keyByte(token, d), l.valueByte(token, d)} {
					own(at, token)
					if nibbles[[2]int{at, d % 2}] {
						t.Fatalf("%v: nibble %d of byte %d is used twice", l, d%2, at)
					}
					nibbles[[2]int{at, d % 2}] = true
				}
			}
			for group := range l.HeadDim / l.Group {
				for _, values := range []bool{false, true} {
					for i := range l.parameterBytes() {
						own(l.parameterByte(values, group, token)+i, token)
					}
				}
			}
		}
		if i := slices.Index(owners, 0); i >= 0 {
			t.Errorf("%v: byte %d belongs to nobody", l, i)
		}
		if l.RecordBytes()%16 != 0 {
			t.Errorf("%v: records of %d bytes, which no bulk copy moves", l, l.RecordBytes())
		}
	}
}

// Get returns what Put wrote, whatever was there before.
func TestKVPutGet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom(kvLayouts()).Draw(t, "layout")
		r := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		record := make([]byte, l.RecordBytes())
		for i := range record {
			record[i] = byte(r.Uint32())
		}
		want := map[bool][kvBlock]ref.CachedHead{}
		for _, values := range []bool{false, true} {
			var heads [kvBlock]ref.CachedHead
			for _, token := range r.Perm(kvBlock) {
				x := make([]float32, l.HeadDim)
				for i := range x {
					x[i] = float32(r.NormFloat64())
				}
				heads[token] = ref.EncodeCached(l.scheme(), x)
				l.Put(record, values, token, heads[token])
			}
			want[values] = heads
		}
		for values, heads := range want {
			for token := range kvBlock {
				if diff := cmp.Diff(heads[token], l.Get(record, values, token)); diff != "" {
					t.Fatalf("%v, values %t, token %d (-put +got):\n%s", l, values, token, diff)
				}
			}
		}
	})
}

// The layouts with kernels are in the manifest, for reading and for writing.
func TestKVKernelsAreBuilt(t *testing.T) {
	t.Parallel()
	built := map[string]bool{}
	for _, c := range BuiltKernels().Cubins {
		for _, k := range c.Kernels {
			built[k.Name] = true
			if strings.HasPrefix(k.Name, "kv") && k.SpillBytes > 0 {
				t.Errorf("%s spills %d bytes", k.Name, k.SpillBytes)
			}
		}
	}
	for _, l := range kvLayouts() {
		for _, kernel := range []string{"kvdecode", "kvappend"} {
			if name := fmt.Sprintf("%s_%v", kernel, l); !built[name] {
				t.Errorf("%s is not in the manifest", name)
			}
		}
	}
}
