package smoothing

// field is GF(p^e) as far as Paley's construction needs it: subtraction, and
// which elements are squares. An element is a number below q = p^e whose e
// digits in base p are the coefficients of a polynomial in x, lowest first.
type field struct {
	p, q int
	chi  []int8 // by element: 0 of 0, 1 of a nonzero square, -1 of any other
}

// newField makes GF(q); q must be a prime power.
//
// A root x of a primitive polynomial x^e = c(x) has every nonzero element among
// its powers, and the even powers are the squares (Lidl and Niederreiter,
// "Finite Fields", ch. 3). The polynomial is found by trying each c.
func newField(q int) *field {
	p, ok := primeOf(q)
	if !ok {
		panic("smoothing: the order of a field is a prime power")
	}
	f := &field{p: p, q: q}
	for c := 1; f.chi == nil; c++ {
		f.chi = f.characters(c)
	}
	return f
}

// characters walks the powers of x under x^e = c and returns the quadratic
// character, nil when x has an order below q-1.
func (f *field) characters(c int) []int8 {
	chi := make([]int8, f.q)
	power, sign := 1, int8(1)
	for range f.q - 1 {
		if power == 0 || chi[power] != 0 {
			return nil
		}
		chi[power] = sign
		power, sign = f.timesX(power, c), -sign
	}
	return chi
}

// timesX multiplies a by x: its digits move up, and the one that leaves at the
// top, times x^e, comes back as that multiple of c.
func (f *field) timesX(a, c int) int {
	top := a / (f.q / f.p)
	return f.combine(a%(f.q/f.p)*f.p, c, top)
}

// sub is a - b.
func (f *field) sub(a, b int) int { return f.combine(a, b, f.p-1) }

// combine is a + n·b, digit by digit mod p.
func (f *field) combine(a, b, n int) int {
	sum := 0
	for place := 1; place < f.q; place *= f.p {
		sum += (a/place%f.p + n*(b/place%f.p)) % f.p * place
	}
	return sum
}

// primeOf returns p for q = p^e, e at least one, and false for any other q.
func primeOf(q int) (p int, ok bool) {
	if q < 2 {
		return 0, false
	}
	p = 2
	for q%p != 0 {
		p++
	}
	for q%p == 0 {
		q /= p
	}
	return p, q == 1
}
