package packer

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"quantize/calibrate"
	"quantize/tensor"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func hessianOf(data []float64) *calibrate.Hessian {
	return &calibrate.Hessian{K: int(math.Sqrt(float64(len(data)))), Data: slices.Clone(data)}
}

func factor(t testing.TB, h []float64, o FactorOptions) *Factor {
	t.Helper()
	f, err := FactorHessian(hessianOf(h), o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func gptq(t testing.TB, w tensor.Matrix, f *Factor, o GPTQOptions) (*Int4Weight, *GPTQReport) {
	t.Helper()
	q, r, err := QuantizeGPTQ(w, f, o)
	if err != nil {
		t.Fatal(err)
	}
	return q, r
}

func lut(group int) GPTQOptions {
	return GPTQOptions{Int4Options: Int4Options{GroupSize: group, Grid: GridLUT, Search: true}}
}

// outputError is tr((W-W')H(W-W')ᵀ), in the words of the formula.
func outputError(w tensor.Matrix, q Weight, a Arithmetic, h []float64) float64 {
	got := tensor.NewMatrix(w.Rows, w.Cols)
	q.Decode(got, a)
	e := make([]float64, w.Cols)
	var sum float64
	for n := range w.Rows {
		for k, x := range w.Row(n) {
			e[k] = float64(x) - float64(got.Row(n)[k])
		}
		for i, a := range e {
			for j, b := range e {
				sum += a * h[i*w.Cols+j] * b
			}
		}
	}
	return sum
}

func agree(got, want, relative float64) bool { return math.Abs(got-want) <= relative*math.Abs(want) }

// Without correlations there is nothing to propagate.
func TestGPTQWithoutCorrelationsIsRTN(t *testing.T) {
	w, _ := adversarial()
	h := make([]float64, w.Cols*w.Cols)
	for i := range w.Cols {
		h[i*w.Cols+i] = 1
	}
	for _, g := range []Grid{GridLUT, GridExact, GridWeightOnly} {
		for _, order := range []bool{false, true} {
			o := GPTQOptions{Int4Options: Int4Options{GroupSize: 64, Grid: g, Search: true, FP8Activations: true}}
			want, wantReport, err := QuantizeInt4(w, even(o.Int4Options))
			if err != nil {
				t.Fatal(err)
			}
			got, r := gptq(t, w, factor(t, h, FactorOptions{ActOrder: order}), o)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%v act-order %v: %s", g, order, d)
			}
			if !agree(r.SSE, wantReport.SSE, 1e-12) || !agree(r.Loss, r.LossRTN, 1e-12) || !agree(r.Loss, r.SSE, 1e-9) {
				t.Errorf("%v: loss %g, loss of RTN %g, SSE %g, SSE of RTN %g", g, r.Loss, r.LossRTN, r.SSE, wantReport.SSE)
			}
			r.SSE = wantReport.SSE // summed in another order
			if d := cmp.Diff(*wantReport, r.Int4Report, cmp.Comparer(func(a, b float64) bool { return agree(a, b, 1e-12) })); d != "" {
				t.Errorf("%v: %s", g, d)
			}
		}
	}
}

// obq rounds by eliminating one input after the other from the explicit inverse of
// the damped Hessian (Optimal Brain Quantization, arXiv 2208.11580, eq. 2 and 3, in
// the order of GPTQ). nearest gives the code for v in column c of row n, and its product.
func obq(w tensor.Matrix, h []float64, order []int, damp float64, nearest func(n, c int, v float64) (int8, float64)) [][]int8 {
	k := w.Cols
	damped := slices.Clone(h)
	var mean float64
	for i := range k {
		mean += h[i*k+i] / float64(k)
	}
	for i := range k {
		damped[i*k+i] += damp * mean
	}
	codes := make([][]int8, w.Rows)
	for n := range codes {
		inverse := inverted(damped, k)
		codes[n] = make([]int8, k)
		row := make([]float64, k)
		for i, x := range w.Row(n) {
			row[i] = float64(x)
		}
		for _, c := range order {
			code, product := nearest(n, c, row[c])
			codes[n][c] = code
			e := (row[c] - product) / inverse[c*k+c]
			for j := range row {
				row[j] -= e * inverse[c*k+j]
			}
			pivot := inverse[c*k+c]
			column := make([]float64, k)
			for i := range k {
				column[i] = inverse[i*k+c]
			}
			for i := range k {
				for j := range k {
					inverse[i*k+j] -= column[i] * column[j] / pivot
				}
			}
		}
	}
	return codes
}

// nearestInt4 searches the products under the scales of q.
func nearestInt4(q *Int4Weight, g Grid) func(n, c int, v float64) (int8, float64) {
	chans, s8 := q.Split()
	return func(n, c int, v float64) (code int8, product float64) {
		at := n*(q.K/q.GroupSize) + c/q.GroupSize
		products := Products(g.Arithmetic(), q.Scales[at], s8[at], chans[n])
		best := math.Inf(1)
		for i := g.lowest(); i <= 7; i++ {
			if p := float64(products[i+8]); math.Abs(v-p) < best {
				best, code, product = math.Abs(v-p), int8(i), p
			}
		}
		return code, product
	}
}

// inverted is Gauss-Jordan elimination of a positive definite matrix.
func inverted(a []float64, n int) []float64 {
	a = slices.Clone(a)
	for p := range n {
		d := a[p*n+p]
		a[p*n+p] = 1
		for j := range n {
			a[p*n+j] /= d
		}
		for i := range n {
			if i == p {
				continue
			}
			f := a[i*n+p]
			a[i*n+p] = 0
			for j := range n {
				a[i*n+j] -= f * a[p*n+j]
			}
		}
	}
	return a
}

func codesOf(q *Int4Weight) [][]int8 {
	all := make([][]int8, q.N)
	for n := range all {
		all[n] = make([]int8, q.K)
		tensor.UnpackInt4(all[n], q.Codes[n*q.K/8:][:q.K/8])
	}
	return all
}

func TestGPTQIsOBQ(t *testing.T) {
	for _, k := range []int{32, 96, 128} {
		w := randomMatrix(5, k, uint64(k), studentT5)
		h := gramian(k, 2*k, uint64(k)+1)
		for _, g := range []Grid{GridLUT, GridExact, GridWeightOnly} {
			for _, order := range []bool{false, true} {
				for _, search := range []bool{false, true} {
					o := GPTQOptions{Int4Options: Int4Options{GroupSize: 32, Grid: g, Search: search}}
					f := factor(t, h, FactorOptions{ActOrder: order})
					q, _ := gptq(t, w, f, o)
					if order == slices.IsSorted(f.order) {
						t.Fatalf("act-order %v: the order is %v", order, f.order)
					}
					if d := cmp.Diff(obq(w, h, f.order, 0.01, nearestInt4(q, g)), codesOf(q)); d != "" {
						t.Errorf("K = %d, %v, act-order %v, search %v: %s", k, g, order, search, d)
					}
					rtn, _, err := QuantizeInt4(w, even(o.Int4Options))
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(rtn.Scales, q.Scales) {
						t.Error("the scales moved")
					}
					if slices.Equal(rtn.Codes, q.Codes) {
						t.Error("nothing was propagated")
					}
				}
			}
		}
	}
}

// In FP64 neither the block size nor the number of workers changes a bit.
func TestGPTQIsTheSameForAnyBlockAndWorkers(t *testing.T) {
	const k = 320
	w := randomMatrix(stripRows+9, k, 2, gaussian)
	for _, order := range []bool{false, true} {
		f := factor(t, gramian(k, 500, 3), FactorOptions{ActOrder: order})
		o := lut(64)
		o.BlockSize = 1
		want, wantReport := gptq(t, w, f, o)
		for _, block := range []int{7, 64, 128, 1000} {
			for _, workers := range []int{1, 3} {
				before := runtime.GOMAXPROCS(workers)
				o.BlockSize = block
				got, r := gptq(t, w, f, o)
				runtime.GOMAXPROCS(before)
				if !slices.Equal(want.Codes, got.Codes) || !slices.Equal(want.Scales, got.Scales) || *r != *wantReport {
					t.Errorf("act-order %v, block %d, %d workers: another result", order, block, workers)
				}
			}
		}
	}
}

// Loss is the formula, and less than that of the nearest codes.
func TestGPTQLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group := rapid.SampledFrom([]int{32, 64}).Draw(t, "group")
		k := group * rapid.IntRange(1, 3).Draw(t, "groups")
		seed := rapid.Uint64().Draw(t, "seed")
		h := gramian(k, 3*k, seed)
		w := randomMatrix(24, k, seed+1, studentT5)
		o := GPTQOptions{Int4Options: Int4Options{
			GroupSize: group, Grid: rapid.SampledFrom([]Grid{GridLUT, GridExact, GridWeightOnly}).Draw(t, "grid"),
			Search: rapid.Bool().Draw(t, "search"),
		}}
		f, err := FactorHessian(hessianOf(h), FactorOptions{ActOrder: rapid.Bool().Draw(t, "act-order")})
		if err != nil {
			t.Fatal(err)
		}
		q, r, err := QuantizeGPTQ(w, f, o)
		if err != nil {
			t.Fatal(err)
		}
		rtn, _, err := QuantizeInt4(w, even(o.Int4Options))
		if err != nil {
			t.Fatal(err)
		}
		// The sums have K² terms and cancel; H is known to be conditioned well.
		if want := outputError(w, q, o.Grid.Arithmetic(), h); !agree(r.Loss, want, 1e-8) {
			t.Fatalf("loss %g, by the formula %g", r.Loss, want)
		}
		if want := outputError(w, rtn, o.Grid.Arithmetic(), h); !agree(r.LossRTN, want, 1e-8) {
			t.Fatalf("loss of RTN %g, by the formula %g", r.LossRTN, want)
		}
		if r.Loss >= r.LossRTN {
			t.Fatalf("loss %g, of RTN %g", r.Loss, r.LossRTN)
		}
		if want := distance(w, q, o.Grid.Arithmetic(), nil); !agree(r.SSE, want, 1e-9) {
			t.Fatalf("SSE %g, decoded %g", r.SSE, want)
		}
	})
}

// floatMatMulT is a product summed in FP32.
func floatMatMulT(dst, a, b tensor.Matrix) {
	for i := range a.Rows {
		x, y := a.Row(i), dst.Row(i)
		for j := range b.Rows {
			var sum float32
			for k, v := range b.Row(j) {
				sum += float32(x[k] * v)
			}
			y[j] = sum
		}
	}
}

// An FP32 product turns a code over where a weight lies within its rounding of
// the middle of two products; the columns that follow then make up for that code
// too, so that the loss hardly changes.
func TestGPTQWithAnFP32Product(t *testing.T) {
	const k = 384
	h := gramian(k, 600, 5)
	w := randomMatrix(64, k, 6, studentT5)
	f := factor(t, h, FactorOptions{ActOrder: true})
	o := lut(128)
	want, wantReport := gptq(t, w, f, o)
	o.MatMulT = floatMatMulT
	got, r := gptq(t, w, f, o)
	if !slices.Equal(want.Scales, got.Scales) {
		t.Error("the scales depend on the product")
	}
	different := 0
	for n, row := range codesOf(want) {
		for i, q := range codesOf(got)[n] {
			if q != row[i] {
				different++
			}
		}
	}
	if different > w.Rows*k/100 {
		t.Errorf("%d of %d codes differ", different, w.Rows*k)
	}
	if !agree(r.Loss, wantReport.Loss, 0.01) || !agree(r.LossRTN, wantReport.LossRTN, 1e-4) {
		t.Errorf("losses %g and %g, in FP64 %g and %g", r.Loss, r.LossRTN, wantReport.Loss, wantReport.LossRTN)
	}
	if direct := outputError(w, got, LUT, h); !agree(r.Loss, direct, 1e-4) {
		t.Errorf("loss %g, by the formula %g", r.Loss, direct)
	}
}

// With act-order the inputs' order within their groups, and the groups' order,
// do not matter.
func TestGPTQActOrderFollowsPermutedInputs(t *testing.T) {
	const k, group = 192, 32
	h := gramian(k, 400, 8)
	w := randomMatrix(20, k, 9, gaussian)
	r := rand.New(rand.NewPCG(1, 1))
	var order []int
	for _, g := range r.Perm(k / group) {
		for _, j := range r.Perm(group) {
			order = append(order, g*group+j)
		}
	}
	moved := tensor.NewMatrix(w.Rows, k)
	for n := range w.Rows {
		copy(moved.Row(n), permuted(w.Row(n), order))
	}
	movedH := make([]float64, len(h))
	for i, a := range order {
		for j, b := range order {
			movedH[i*k+j] = h[a*k+b]
		}
	}
	// The plain search: a searched row adds the errors of its groups in their order.
	o := GPTQOptions{Int4Options: Int4Options{GroupSize: group, Grid: GridLUT}}
	q, _ := gptq(t, w, factor(t, h, FactorOptions{ActOrder: true}), o)
	got, _ := gptq(t, moved, factor(t, movedH, FactorOptions{ActOrder: true}), o)
	for n, want := range codesOf(q) {
		if d := cmp.Diff(permuted(want, order), codesOf(got)[n]); d != "" {
			t.Fatalf("row %d: %s", n, d)
		}
	}
	// The control: without act-order the order does matter.
	q, _ = gptq(t, w, factor(t, h, FactorOptions{}), o)
	got, _ = gptq(t, moved, factor(t, movedH, FactorOptions{}), o)
	same := true
	for n, want := range codesOf(q) {
		same = same && slices.Equal(permuted(want, order), codesOf(got)[n])
	}
	if same {
		t.Error("without act-order the codes follow too")
	}
}

// Weights of inputs that were always zero become 0 and influence nothing.
func TestGPTQDeadColumns(t *testing.T) {
	const k = 128
	h := gramian(k, 300, 11)
	dead := []int{0, 17, 63, 127}
	for _, j := range dead {
		for i := range k {
			h[i*k+j], h[j*k+i] = 0, 0
		}
	}
	w := randomMatrix(16, k, 12, gaussian)
	for _, order := range []bool{false, true} {
		f := factor(t, h, FactorOptions{ActOrder: order})
		o := GPTQOptions{Int4Options: Int4Options{GroupSize: 128, Grid: GridLUT}}
		q, r := gptq(t, w, f, o)
		if r.DeadColumns != len(dead) || f.DeadColumns != len(dead) {
			t.Errorf("%d dead columns", r.DeadColumns)
		}
		for n, row := range codesOf(q) {
			for _, j := range dead {
				if row[j] != 0 {
					t.Fatalf("row %d: code %d of a dead input", n, row[j])
				}
			}
		}
		if want := outputError(w, q, LUT, h); !agree(r.Loss, want, 1e-8) || r.Loss >= r.LossRTN {
			t.Errorf("loss %g, by the formula %g, of RTN %g", r.Loss, want, r.LossRTN)
		}
		if want := distance(w, q, LUT, nil); !agree(r.SSE, want, 1e-9) {
			t.Errorf("SSE %g, decoded %g", r.SSE, want)
		}
		// Other weights at the dead inputs, the amax of their group kept.
		other := tensor.NewMatrix(w.Rows, k)
		copy(other.Data, w.Data)
		for n := range w.Rows {
			for _, j := range dead {
				if math.Abs(float64(w.Row(n)[j])) < 0.02 {
					other.Row(n)[j] = -w.Row(n)[j] / 2
				}
			}
		}
		if again, _ := gptq(t, other, f, o); !slices.Equal(again.Codes, q.Codes) {
			t.Error("the weights of dead inputs have an influence")
		}
	}
	all := factor(t, make([]float64, k*k), FactorOptions{})
	q, r := gptq(t, w, all, lut(128))
	if r.DeadColumns != k || r.Loss != 0 || r.LossRTN != 0 || !agree(r.SSE, r.Energy, 1e-12) {
		t.Errorf("all dead: %+v", *r)
	}
	for _, row := range codesOf(q) {
		for _, c := range row {
			if c != 0 {
				t.Fatal("all dead: a code is not 0")
			}
		}
	}
}

// One site's factor serves several linears at once.
func TestGPTQSharesAFactor(t *testing.T) {
	const k = 128
	f := factor(t, gramian(k, 300, 14), FactorOptions{ActOrder: true})
	var weights []tensor.Matrix
	var want []*Int4Weight
	for i := range 4 {
		w := randomMatrix(8+i, k, uint64(i), gaussian)
		q, _ := gptq(t, w, f, lut(64))
		weights, want = append(weights, w), append(want, q)
	}
	var group sync.WaitGroup
	for i, w := range weights {
		group.Go(func() {
			before := slices.Clone(w.Data)
			q, _, err := QuantizeGPTQ(w, f, lut(64))
			if err != nil || cmp.Diff(want[i], q) != "" {
				t.Errorf("linear %d: another result (%v)", i, err)
			}
			if !slices.Equal(before, w.Data) {
				t.Errorf("linear %d: the weight was written", i)
			}
		})
	}
	group.Wait()
}

func TestGPTQRefuses(t *testing.T) {
	f := factor(t, gramian(64, 100, 15), FactorOptions{})
	bad := randomMatrix(2, 64, 16, gaussian)
	bad.Row(1)[3] = float32(math.NaN())
	good := randomMatrix(2, 64, 16, gaussian)
	for name, c := range map[string]struct {
		w    tensor.Matrix
		o    GPTQOptions
		want error
	}{
		"NaN":         {bad, lut(32), ErrInvalid},
		"other K":     {randomMatrix(2, 32, 1, gaussian), lut(32), ErrOption},
		"no grid":     {good, GPTQOptions{Int4Options: Int4Options{GroupSize: 32}}, ErrOption},
		"group of 48": {good, lut(48), ErrOption},
		"block of -1": {good, GPTQOptions{Int4Options: lut(32).Int4Options, Propagation: Propagation{BlockSize: -1}}, ErrOption},
		"overflow of the product": {good, GPTQOptions{
			Int4Options: lut(32).Int4Options,
			Propagation: Propagation{BlockSize: 32, MatMulT: func(dst, _, _ tensor.Matrix) { dst.Data[0] = float32(math.NaN()) }},
		}, ErrInvalid},
	} {
		if _, _, err := QuantizeGPTQ(c.w, f, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGPTQLayer(t *testing.T) {
	w := randomMatrix(4, 64, 17, gaussian)
	_, r := gptq(t, w, factor(t, gramian(64, 100, 18), FactorOptions{Damp: 0.05}), lut(64))
	l := r.Layer()
	if l.Method != "gptq" || l.Damp != 0.05 || l.Loss != r.Loss || l.LossRTN != r.LossRTN || l.SSE != r.SSE || l.SNR == nil || l.Loss == 0 {
		t.Errorf("%+v", l)
	}
}

// even gives the options under which QuantizeInt4 chooses the scales of GPTQ.
func even(o Int4Options) Int4Options {
	o.Even = true
	return o
}
