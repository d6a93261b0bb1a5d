package smoothing

import "testing"

func TestFieldsHaveTheirSquares(t *testing.T) {
	t.Parallel()
	for _, q := range []int{3, 5, 7, 9, 11, 25, 27, 49, 243, 343, 461} {
		f := newField(q)
		squares := 0
		for _, c := range f.chi {
			if c == 1 {
				squares++
			}
		}
		if squares != (q-1)/2 || f.chi[0] != 0 || f.chi[1] != 1 {
			t.Errorf("GF(%d): %d squares, χ(0) = %d, χ(1) = %d", q, squares, f.chi[0], f.chi[1])
		}
		// -1 is a square exactly when q ≡ 1 mod 4.
		if want := int8(2 - q%4); f.chi[f.sub(0, 1)] != want {
			t.Errorf("GF(%d): χ(-1) = %d, wanted %d", q, f.chi[f.sub(0, 1)], want)
		}
		// Σ_b χ(b)χ(b+c) = -1 for every c but 0 (Jacobsthal): what makes Paley's rows orthogonal.
		for c := 1; c < q; c++ {
			sum := 0
			for b := range q {
				sum += int(f.chi[b]) * int(f.chi[f.sub(b, c)])
			}
			if sum != -1 {
				t.Fatalf("GF(%d): Σχ(b)χ(b-%d) = %d", q, c, sum)
			}
		}
	}
}

func TestPrimePowers(t *testing.T) {
	t.Parallel()
	want := map[int]int{2: 2, 3: 3, 4: 2, 5: 5, 7: 7, 8: 2, 9: 3, 11: 11, 13: 13, 16: 2, 17: 17, 19: 19, 23: 23, 25: 5, 27: 3}
	for q := range 28 {
		p, ok := primeOf(q)
		if w, power := want[q]; ok != power || ok && p != w {
			t.Errorf("%d: %d %v, wanted %d", q, p, ok, w)
		}
	}
}

// The primes' squares, by squaring.
func TestPrimeFieldsAgainstSquaring(t *testing.T) {
	t.Parallel()
	for _, p := range []int{3, 11, 37, 251, 683} {
		f := newField(p)
		for i := 1; i < p; i++ {
			if f.chi[i*i%p] != 1 {
				t.Errorf("GF(%d): %d² is no square", p, i)
			}
		}
	}
}
