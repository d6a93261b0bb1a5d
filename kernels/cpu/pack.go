package cpu

import "unsafe"

// packed is a weight (N, K) in the order in which the tiles read it:
//
//	for each block of blockK steps of k        (the last block may be shorter)
//	  for each panel of cols output features   (the last panel is padded with zeros)
//	    for each k of the block
//	      cols values
//
// so that element (j, p) is at start(p/block, j/cols) + p%block*cols + j%cols.
type packed struct {
	kern  *kernel
	n, k  int
	block int       // steps of k in each block but the last
	data  []float32 // 64-byte aligned, k * panels * cols
	bias  []float32 // panels * cols, zeros where there is none
}

func newPacked(kern *kernel, n, k int) *packed {
	return newPackedBlock(kern, n, k, evenBlock(k, kern.blockK))
}

func newPackedBlock(kern *kernel, n, k, block int) *packed {
	p := &packed{kern: kern, n: n, k: k, block: block}
	width := p.panels() * kern.cols
	p.data = aligned(k * width)
	p.bias = aligned(width)
	return p
}

// evenBlock cuts k into the fewest blocks of at most most steps, nearly equal,
// whole multiples of eight. It depends on k only, so sums do not depend on M.
func evenBlock(k, most int) int {
	if k == 0 {
		return 1
	}
	blocks := (k + most - 1) / most
	even := (k + blocks - 1) / blocks
	return (even + 7) &^ 7
}

func (p *packed) panels() int { return (p.n + p.kern.cols - 1) / p.kern.cols }

// blocks returns the number of blocks of k, at least one: with k = 0 a product
// is its bias.
func (p *packed) blocks() int { return max(1, (p.k+p.block-1)/p.block) }

// steps returns the steps of k in block b.
func (p *packed) steps(b int) int { return min(p.block, p.k-b*p.block) }

// start is the offset of a panel in data.
func (p *packed) start(block, panel int) int {
	return (block*p.block*p.panels() + p.steps(block)*panel) * p.kern.cols
}

// setRow packs row j of the weight, of k elements.
func (p *packed) setRow(j int, row []float32) {
	if p.k == 0 {
		return
	}
	cols := p.kern.cols
	for b := range p.blocks() {
		part := row[b*p.block : b*p.block+p.steps(b)]
		out := p.data[p.start(b, j/cols)+j%cols:]
		for i, v := range part {
			out[i*cols] = v
		}
	}
}

// together is the number of rows that setRows packs at once.
const together = 8

// setRows packs the rows j, j+1, ..., stride elements apart in rows. Eight rows
// of a panel at once make whole vectors of it.
func (p *packed) setRows(j, count int, rows []float32, stride int) {
	for i := 0; i < count; {
		if p.kern.interleave == nil || (j+i)%together != 0 || i+together > count || p.k == 0 {
			p.setRow(j+i, rows[i*stride:i*stride+p.k])
			i++
			continue
		}
		cols := p.kern.cols
		for b := range p.blocks() {
			from, steps := i*stride+b*p.block, p.steps(b)
			out := p.data[p.start(b, (j+i)/cols)+(j+i)%cols:]
			whole := steps &^ 3
			p.kern.interleave(&out[0], cols, &rows[from], stride, whole)
			for s := whole; s < steps; s++ {
				for r := range together {
					out[s*cols+r] = rows[from+r*stride+s]
				}
			}
		}
		i += together
	}
}

// setColumn packs column i of the weight, of n elements.
func (p *packed) setColumn(i int, column []float32) {
	b, cols := i/p.block, p.kern.cols
	for panel := range p.panels() {
		o := p.start(b, panel) + i%p.block*cols
		copy(p.data[o:o+cols], column[panel*cols:])
	}
}

// aligned returns n zeros that start on a cache line.
func aligned(n int) []float32 {
	const line = 64
	s := make([]float32, n+line/4)
	skip := 0
	if r := int(uintptr(unsafe.Pointer(unsafe.SliceData(s))) % line); r != 0 {
		skip = (line - r) / 4
	}
	return s[skip : skip+n : skip+n]
}
