package smoothing

// Apply replaces x, of length n, by Hx, in n·(k + Σm) additions and without
// allocating. It is x, seen as a row, times Hᵀ.
func (h *Hadamard) Apply(x []float64) { h.transform(x, false) }

// ApplyTransposed replaces x, of length n, by Hᵀx: the inverse of Apply.
func (h *Hadamard) ApplyTransposed(x []float64) { h.transform(x, true) }

// Rotate is Apply: a row times Q = Hᵀ.
func (h *Hadamard) Rotate(row []float64) { h.transform(row, false) }

// Unrotate is ApplyTransposed.
func (h *Hadamard) Unrotate(row []float64) { h.transform(row, true) }

// transform applies the factors one after the other; they act on different
// digits of the index and commute.
func (h *Hadamard) transform(x []float64, transposed bool) {
	if len(x) != h.n {
		panic("smoothing: length of the vector is not the order of the rotation")
	}
	for from := 0; from < h.n; from += h.sylvester {
		butterflies(x[from : from+h.sylvester])
	}
	if len(h.paley) > 0 {
		buffer := h.scratch.Get().(*[]float64)
		for _, f := range h.paley {
			plus := f.plus
			if transposed {
				plus = f.plusTransposed
			}
			f.apply(x, plus, *buffer)
		}
		h.scratch.Put(buffer)
	}
	for i := range x {
		x[i] *= h.scale
	}
}

// butterflies multiplies x, of length 2^k, by Sylvester's matrix of ±1: for
// each distance 1, 2, 4, ... (u, v) <- (u+v, u-v). Two distances are taken at a
// time, which halves the traffic and leaves every sum as it is; the first three
// at once, in registers.
func butterflies(x []float64) {
	n := len(x)
	distance := 1
	if n >= 8 {
		eights(x)
		distance = 8
	}
	for ; 4*distance <= n; distance *= 4 {
		for from := 0; from < n; from += 4 * distance {
			a, b := x[from:from+distance], x[from+distance:from+2*distance]
			c, d := x[from+2*distance:from+3*distance], x[from+3*distance:from+4*distance]
			b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
			for i, u := range a {
				v, w, z := b[i], c[i], d[i]
				p, q, r, s := u+v, u-v, w+z, w-z
				a[i], b[i], c[i], d[i] = p+r, q+s, p-r, q-s
			}
		}
	}
	if distance < n { // one is left
		a, b := x[:distance], x[distance:]
		b = b[:len(a)]
		for i, u := range a {
			a[i], b[i] = u+b[i], u-b[i]
		}
	}
}

// eights does the distances 1, 2 and 4.
func eights(x []float64) {
	for ; len(x) >= 8; x = x[8:] {
		v := (*[8]float64)(x)
		a, b, c, d := v[0]+v[1], v[0]-v[1], v[2]+v[3], v[2]-v[3]
		e, f, g, h := v[4]+v[5], v[4]-v[5], v[6]+v[7], v[6]-v[7]
		a, b, c, d = a+c, b+d, a-c, b-d
		e, f, g, h = e+g, f+h, e-g, f-h
		v[0], v[1], v[2], v[3] = a+e, b+f, c+g, d+h
		v[4], v[5], v[6], v[7] = a-e, b-f, c-g, d-h
	}
}

// columns is the number of columns that a Paley factor multiplies at a time.
const columns = 8

// paleyFactor is H_m acting on the digit of weight stride: on the vectors
// x[o·m·stride + t + c·stride], c < m, for every o and t < stride.
type paleyFactor struct {
	m, stride            int
	sign                 [][]int8
	plus, plusTransposed [][]uint16 // by row: the columns that hold +1
}

func newPaleyFactor(m, stride int) *paleyFactor {
	f := &paleyFactor{m: m, stride: stride, sign: paley(m)}
	f.plus, f.plusTransposed = make([][]uint16, m), make([][]uint16, m)
	for i, row := range f.sign {
		for j, s := range row {
			if s > 0 {
				f.plus[i] = append(f.plus[i], uint16(j))
				f.plusTransposed[j] = append(f.plusTransposed[j], uint16(i))
			}
		}
	}
	return f
}

// apply multiplies every vector by the matrix whose row a has ones at plus[a]
// and minus ones elsewhere, several vectors at a time. A sum with signs is
// twice the sum of what has a plus, less the sum of all.
func (f *paleyFactor) apply(x []float64, plus [][]uint16, buffer []float64) {
	vectors := len(x) / f.m
	for first := 0; first < vectors; first += columns {
		var start [columns]int
		for j := range start {
			v := min(first+j, vectors-1) // the last ones again: same values, to the same places
			start[j] = v/f.stride*f.m*f.stride + v%f.stride
		}
		var all [columns]float64
		for c := range f.m {
			line := (*[columns]float64)(buffer[c*columns:])
			for j, o := range start {
				line[j] = x[o+c*f.stride]
				all[j] += line[j]
			}
		}
		for a, ones := range plus {
			sums := sumLines(buffer, ones)
			for j, o := range start {
				x[o+a*f.stride] = 2*sums[j] - all[j]
			}
		}
	}
}

// sumLines adds up the lines of buffer that are named.
func sumLines(buffer []float64, lines []uint16) [columns]float64 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float64
	for _, c := range lines {
		line := (*[columns]float64)(buffer[int(c)*columns:])
		s0, s1, s2, s3 = s0+line[0], s1+line[1], s2+line[2], s3+line[3]
		s4, s5, s6, s7 = s4+line[4], s5+line[5], s6+line[6], s7+line[7]
	}
	return [columns]float64{s0, s1, s2, s3, s4, s5, s6, s7}
}
