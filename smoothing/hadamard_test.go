package smoothing

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"quantize/internal/fault"
)

func hadamard(t testing.TB, n int) *Hadamard {
	t.Helper()
	h, err := NewHadamard(n)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// signRow packs row i of a ±1 matrix: a bit for every -1.
func signRow(h *Hadamard, i int) []uint64 {
	row := make([]uint64, (h.Order()+63)/64)
	for j := range h.Order() {
		if h.Sign(i, j) < 0 {
			row[j/64] |= 1 << (j % 64)
		}
	}
	return row
}

// product is the product of two rows of ±1.
func product(n int, a, b []uint64) int {
	differ := 0
	for i := range a {
		differ += bits.OnesCount64(a[i] ^ b[i])
	}
	return n - 2*differ
}

// H Hᵀ = n I in integers, for every order up to 1024.
func TestEveryOrderIsHadamard(t *testing.T) {
	t.Parallel()
	offered := 0
	for n := 1; n <= 1024; n++ {
		h, err := NewHadamard(n)
		if err != nil {
			continue
		}
		offered++
		if n > 2 && n%4 != 0 {
			t.Errorf("order %d cannot exist", n)
		}
		rows := make([][]uint64, n)
		for i := range rows {
			rows[i] = signRow(h, i)
			for j := range i {
				if p := product(n, rows[i], rows[j]); p != 0 {
					t.Fatalf("%v: rows %d and %d have product %d", h, i, j, p)
				}
			}
		}
	}
	if offered != 116 { // of the 258 that are 1, 2 or a multiple of 4
		t.Errorf("%d orders offered up to 1024", offered)
	}
}

func TestWidthsOfModels(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n    int
		want []int
	}{
		{1, []int{1}},
		{2, []int{2}},
		{64, []int{64}},
		{576, []int{12, 12, 4}},
		{768, []int{12, 64}},
		{896, []int{28, 32}},
		{960, []int{12, 20, 4}},
		{1408, []int{44, 32}},
		{1536, []int{12, 128}},
		{2560, []int{20, 128}},
		{3584, []int{28, 128}},
		{4096, []int{4096}},
		{4864, []int{76, 64}},
		{5120, []int{20, 256}},
		{5632, []int{44, 128}},
		{6656, []int{52, 128}},
		{8960, []int{20, 28, 16}},
		{9216, []int{12, 12, 64}},
		{9728, []int{76, 128}},
		{10944, []int{36, 76, 4}},
		{11008, []int{344, 32}},
		{13824, []int{12, 36, 32}},
		{14336, []int{28, 512}},
		{17408, []int{68, 256}},
		{18432, []int{12, 12, 128}},
		{18944, []int{148, 128}},
		{25600, []int{20, 20, 64}},
		{27648, []int{12, 36, 64}},
		{28672, []int{28, 1024}},
		{29568, []int{44, 84, 8}},
		{342 * 8, []int{36, 76}},
		{684, []int{684}},
		{312, []int{312}},
		{1248, []int{12, 52, 2}},
		{924, []int{924}},
	} {
		h := hadamard(t, tc.n)
		if got := h.Factors(); !slices.Equal(got, tc.want) || h.Order() != tc.n || h.Blocks() != 1 {
			t.Errorf("%d: factors %v, wanted %v", tc.n, got, tc.want)
		}
		rng := rand.New(rand.NewPCG(1, uint64(tc.n)))
		for range 12 {
			i, j := rng.IntN(tc.n), rng.IntN(tc.n)
			want := 0
			if i == j {
				want = tc.n
			}
			if p := product(tc.n, signRow(h, i), signRow(h, j)); p != want {
				t.Errorf("%v: rows %d and %d have product %d", h, i, j, p)
			}
		}
	}
}

// No other choice of at most two Paley orders takes fewer additions.
func TestCheapestConstruction(t *testing.T) {
	t.Parallel()
	for n := 4; n <= 30000; n += 4 * (1 + n/200) { // every order at first, then fewer
		h, err := NewHadamard(n)
		fewest := 0
		for i := -1; i < len(paleyOrders); i++ {
			for j := -1; j <= i; j++ {
				rest, sum := n, 0
				for _, k := range []int{i, j} {
					if k >= 0 {
						if rest%paleyOrders[k] != 0 {
							rest = 0
						}
						rest /= paleyOrders[k]
						sum += paleyOrders[k]
					}
				}
				if bits.OnesCount(uint(rest)) == 1 {
					if cost := n * (sum + bits.Len(uint(rest)) - 1); fewest == 0 || cost < fewest {
						fewest = cost
					}
				}
			}
		}
		if (err == nil) != (fewest > 0) || err == nil && h.Additions() != fewest {
			t.Fatalf("%d: %v, error %v, wanted %d additions", n, h, err, fewest)
		}
	}
}

func TestOrdersWithoutHadamard(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-4, 0, 3, 9, 14, 15, 92, 107, 13696} {
		_, err := NewHadamard(n)
		var f *fault.Error
		if !errors.Is(err, ErrNoHadamard) || !errors.As(err, &f) || !strings.Contains(f.Wanted, "344") {
			t.Fatalf("%d: error %v", n, err)
		}
	}
	_, err := NewHadamard(13696)
	for _, want := range []string{"13696", "blocks of 128", "random-orthogonal"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}

func TestBlockHadamard(t *testing.T) {
	t.Parallel()
	h, err := BlockHadamard(13696)
	if err != nil {
		t.Fatal(err)
	}
	if h.Order() != 13696 || h.Blocks() != 107 || !slices.Equal(h.Factors(), []int{128}) ||
		h.String() != "block-hadamard 13696 = 107 blocks of 128" || h.Additions() != 13696*7 {
		t.Errorf("%v: order %d, %d blocks, factors %v, %d additions", h, h.Order(), h.Blocks(), h.Factors(), h.Additions())
	}
	if h.Sign(127, 128) != 0 || h.Sign(128, 128) != 1 || h.Sign(129, 129) != -1 {
		t.Error("blocks are not on the diagonal")
	}
	if whole, err := BlockHadamard(64); err != nil || whole.Blocks() != 1 || whole.String() != "hadamard 64" {
		t.Errorf("64: %v, error %v", whole, err)
	}
	for _, n := range []int{-2, 0, 1, 15} {
		if _, err := BlockHadamard(n); !errors.Is(err, ErrNoHadamard) {
			t.Errorf("%d: error %v", n, err)
		}
	}
}

// Both of Paley's constructions, where an order has both, and not the same.
func TestPaleyConstructions(t *testing.T) {
	t.Parallel()
	for _, order := range []int{12, 20, 28, 60, 84, 108} {
		one, two := paleyI(order-1), paleyII(order/2-1)
		same := true
		for i := range order {
			for j := range i + 1 {
				dot := [2]int{}
				for c := range order {
					dot[0] += int(one[i][c]) * int(one[j][c])
					dot[1] += int(two[i][c]) * int(two[j][c])
				}
				want := 0
				if i == j {
					want = order
				}
				if dot != [2]int{want, want} {
					t.Fatalf("order %d: rows %d and %d have products %v", order, i, j, dot)
				}
			}
			same = same && slices.Equal(one[i], two[i])
		}
		if same {
			t.Errorf("order %d: both constructions gave one matrix", order)
		}
		if symmetric(one) {
			t.Errorf("order %d: Paley I is symmetric", order)
		}
		if !symmetric(two) {
			t.Errorf("order %d: Paley II is not symmetric", order)
		}
	}
}

func symmetric(h [][]int8) bool {
	for i, row := range h {
		for j := range i {
			if row[j] != h[j][i] {
				return false
			}
		}
	}
	return true
}
