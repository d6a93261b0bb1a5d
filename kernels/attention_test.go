package kernels_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

// A tile may be skipped only if no query of it sees a key of it, and without a mask it
// is skipped whenever that is so.
func TestTilesTouched(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 5))
	skipped := 0
	for range 300 {
		a := kernels.Attention{Batch: 2, Heads: 2, KVHeads: 1, HeadDim: 1, Queries: 1 + r.IntN(40), Keys: r.IntN(60), Causal: r.IntN(3) > 0}
		if a.Causal {
			a.Window = r.IntN(20)
		}
		if r.IntN(2) == 0 {
			m := &kernels.BlockMask{QueryBlock: 1 + r.IntN(9), KeyBlock: 1 + r.IntN(9)}
			m.Keep = make([]bool, 4*((a.Queries+m.QueryBlock-1)/m.QueryBlock)*((a.Keys+m.KeyBlock-1)/m.KeyBlock))
			for n := range m.Keep {
				m.Keep[n] = r.IntN(4) == 0
			}
			a.Mask = m
		}
		b, h := r.IntN(2), r.IntN(2)
		for i := 0; i < a.Queries; i += 8 {
			for j := 0; j < a.Keys; j += 16 {
				iEnd, jEnd := min(i+8, a.Queries), min(j+16, a.Keys)
				sees := false
				for row := i; row < iEnd; row++ {
					for col := j; col < jEnd; col++ {
						sees = sees || a.Sees(b, h, row, col)
					}
				}
				touches := a.Touches(b, h, i, iEnd, j, jEnd)
				if sees && !touches || a.Mask == nil && touches != sees {
					t.Fatalf("%+v: tile (%d, %d) touched %v, seen %v", a, i, j, touches, sees)
				}
				if !touches {
					skipped++
				}
			}
		}
	}
	if skipped == 0 {
		t.Error("no tile was skipped")
	}
}

// Sees is causal to the end: the last query sees the last key.
func TestSees(t *testing.T) {
	t.Parallel()
	for i, want := range []string{"....", "....", "#...", "##..", ".##.", "..##"} {
		a := kernels.Attention{Batch: 1, Heads: 1, Queries: 6, Keys: 4, Causal: true, Window: 2}
		for j := range want {
			if got := a.Sees(0, 0, i, j); got != (want[j] == '#') {
				t.Errorf("query %d, key %d: %v", i, j, got)
			}
		}
	}
}

// The accumulator of wgmma m64n128: thread t of warp w holds rows 16w + t/4 and + 8,
// columns 8i + 2(t mod 4) and + 1. Scales by thread are then one of queries and one of
// keys for each thread, and no two groups of a tile are held by the same threads.
func TestScalesByThread(t *testing.T) {
	t.Parallel()
	for _, f := range []kernels.AttentionFormat{
		{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread},
		{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, QueryTile: 128},
	} {
		const queryTile, keyTile = 3, 2 // of 64 queries and of 128 keys, away from the start
		queryGroups, keyGroups := map[int]bool{}, map[int]bool{}
		for thread := range 128 {
			warp, lane := thread/32, thread%32
			q, k := map[int]bool{}, map[int]bool{}
			for _, half := range []int{0, 8} {
				q[f.QueryGroup(64*queryTile+16*warp+lane/4+half)] = true
			}
			for i := range 16 {
				for e := range 2 {
					k[f.KeyGroup(128*keyTile+8*i+2*(lane%4)+e)] = true
				}
			}
			if len(q) != 1 || len(k) != 1 {
				t.Fatalf("thread %d sees scales %v of queries and %v of keys", thread, q, k)
			}
			for g := range q {
				queryGroups[g] = true
			}
			for g := range k {
				keyGroups[g] = true
			}
		}
		if len(queryGroups) != 32 || len(keyGroups) != 4 {
			t.Errorf("%d groups of queries and %d of keys in a tile, want 32 and 4", len(queryGroups), len(keyGroups))
		}
	}
}

// Groups are numbered without gaps, and tiles filled up.
func TestGroups(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f             kernels.AttentionFormat
		n             int
		queries, keys int
	}{
		{kernels.AttentionFormat{}, 0, 0, 0},
		{kernels.AttentionFormat{}, 129, 3, 2},
		{kernels.AttentionFormat{QueryTile: 128}, 129, 2, 2},
		{kernels.AttentionFormat{Granularity: kernels.PerWarp}, 65, 8, 1},
		{kernels.AttentionFormat{Granularity: kernels.PerWarp, QueryTile: 128}, 65, 8, 1},
		{kernels.AttentionFormat{Granularity: kernels.PerThread}, 1, 32, 4},
		{kernels.AttentionFormat{Granularity: kernels.PerThread, QueryTile: 128}, 129, 128, 8},
	} {
		if q, k := c.f.QueryGroups(c.n), c.f.KeyGroups(c.n); q != c.queries || k != c.keys {
			t.Errorf("%+v, %d tokens: %d and %d groups, want %d and %d", c.f, c.n, q, k, c.queries, c.keys)
		}
		seen := map[int]bool{}
		for n := range 2 * c.f.Tile() * (c.n + 1) {
			if g := c.f.QueryGroup(n); g < c.queries {
				seen[g] = true
			}
		}
		if len(seen) != c.queries {
			t.Errorf("%+v: %d of %d groups of queries have tokens", c.f, len(seen), c.queries)
		}
	}
}

func TestAttentionRefused(t *testing.T) {
	t.Parallel()
	good := kernels.Attention{Batch: 1, Heads: 2, KVHeads: 1, HeadDim: 64, Queries: 2, Keys: 3, Scale: 1}
	q, k, lse := tensor.NewMatrix(2, 128), tensor.NewMatrix(3, 64), tensor.NewMatrix(2, 2)
	if err := good.Check(q, lse, q, k, k); err != nil {
		t.Fatal(err)
	}
	if err := good.Check(q, tensor.Matrix{}, q, k, k); err != nil {
		t.Fatal("without lse:", err)
	}
	int4 := packer.KVScheme{Format: packer.KVInt4, FP8Queries: true}
	for name, c := range map[string]struct {
		edit func(a *kernels.Attention)
		want error
	}{
		"heads":       {func(a *kernels.Attention) { a.KVHeads = 3 }, packer.ErrInvalid},
		"keys":        {func(a *kernels.Attention) { a.Keys = 4 }, packer.ErrInvalid},
		"queries":     {func(a *kernels.Attention) { a.Queries = 1 }, packer.ErrInvalid},
		"window":      {func(a *kernels.Attention) { a.Window = 3 }, packer.ErrInvalid},
		"mask":        {func(a *kernels.Attention) { a.Mask = &kernels.BlockMask{QueryBlock: 2, KeyBlock: 2} }, packer.ErrInvalid},
		"block":       {func(a *kernels.Attention) { a.Mask = &kernels.BlockMask{} }, packer.ErrInvalid},
		"tile":        {func(a *kernels.Attention) { a.Format.QueryTile = 96 }, packer.ErrOption},
		"mode":        {func(a *kernels.Attention) { a.Format.Mode = 9 }, packer.ErrOption},
		"bf16 scales": {func(a *kernels.Attention) { a.Format.Granularity = kernels.PerThread }, packer.ErrOption},
		"bf16 turned": {func(a *kernels.Attention) { a.Format.Hadamard = true }, packer.ErrOption},
		"cache, turned": {func(a *kernels.Attention) {
			a.Format = kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: int4, Hadamard: true}
		}, packer.ErrOption},
		"cache, bf16": {func(a *kernels.Attention) { a.Format.KV = int4 }, packer.ErrOption},
		"cache, smooth": {func(a *kernels.Attention) {
			a.Format = kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: int4, SmoothK: true}
		}, packer.ErrOption},
		"key scales": {func(a *kernels.Attention) {
			a.Format = kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: int4}
			a.KV.KeyScales = make([]float32, 3)
		}, packer.ErrInvalid},
		"FP8 scale": {func(a *kernels.Attention) {
			a.Format = kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: packer.KVScheme{Format: packer.KVFP8, FP8Queries: true}}
		}, packer.ErrInvalid},
	} {
		a := good
		c.edit(&a)
		if err := a.Check(q, lse, q, k, k); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

// A Hadamard matrix of any other order is not Sylvester's.
func TestHadamardWantsAPowerOfTwo(t *testing.T) {
	t.Parallel()
	f := kernels.AttentionFormat{Mode: kernels.AttentionInt8, Hadamard: true}
	for channels, ok := range map[int]bool{1: true, 64: true, 128: true, 0: false, 96: false, 80: false} {
		if err := f.Validate(channels); (err == nil) != ok || !ok && !errors.Is(err, packer.ErrOption) {
			t.Errorf("%d channels: error %v", channels, err)
		}
	}
}
