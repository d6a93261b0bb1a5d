package packer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/calibrate"
)

// x H' = g, checked by multiplying back.
func TestSolveIsTheInverse(t *testing.T) {
	for _, actOrder := range []bool{false, true} {
		rng := rand.New(rand.NewPCG(1, 2))
		const k, n, tokens = 37, 6, 200
		h := &calibrate.Hessian{K: k, Data: make([]float64, k*k)}
		for range tokens {
			x := make([]float64, k)
			for i := range x {
				x[i] = rng.NormFloat64() * float64(1+i%5)
			}
			x[3] = 0 // a dead input
			for i := range k {
				for j := range k {
					h.Data[i*k+j] += x[i] * x[j]
				}
			}
		}
		damped := slices.Clone(h.Data)
		f, err := FactorHessian(h, FactorOptions{ActOrder: actOrder})
		if err != nil {
			t.Fatal(err)
		}
		for i := range k {
			damped[i*k+i] += f.ridge
		}
		g := make([]float64, n*k)
		for i := range g {
			g[i] = rng.NormFloat64() * 100
			if i%k == 3 {
				g[i] = 0
			}
		}
		x := slices.Clone(g)
		f.Solve(x, n)
		for r := range n {
			for j := range k {
				sum := 0.0
				for i := range k {
					sum += x[r*k+i] * damped[i*k+j]
				}
				if math.Abs(sum-g[r*k+j]) > 1e-9 {
					t.Fatalf("act order %v: row %d, column %d: %g, wanted %g", actOrder, r, j, sum, g[r*k+j])
				}
			}
		}
	}
}

// BenchmarkSolve gives the time of the solution of x H' = g, two triangles of K
// columns for each of N rows.
func BenchmarkSolve(b *testing.B) {
	const k, n = 1536, 576
	f := factor(b, correlated(k), FactorOptions{ActOrder: true})
	g := make([]float64, n*k)
	for b.Loop() {
		for i := range g {
			g[i] = float64(i%17) - 8
		}
		f.Solve(g, n)
	}
	h := correlated(k)
	for i := range 3 { // x·H' is g again
		sum, mass := f.ridge*g[i], 0.0
		for j := range k {
			sum += g[j] * h[j*k+i]
			mass += math.Abs(g[j] * h[j*k+i])
		}
		if want := float64(i%17) - 8; !(math.Abs(sum-want) <= 1e-9*mass) {
			b.Fatalf("column %d: %g, want %g", i, sum, want)
		}
	}
	b.ReportMetric(2*float64(n)*k*k*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
