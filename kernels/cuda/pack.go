package cuda

import (
	"encoding/binary"
	"fmt"

	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

// Codes says how the codes of a packed weight are stored.
type Codes uint8

const (
	// Signed7 has no -8: sign and magnitude, three instructions for eight codes.
	Signed7 Codes = iota + 1
	// Signed8 holds |q|-1 for negative codes: seven instructions.
	Signed8
	// Products holds selectors of a table of the products with the scale, rounded to
	// E4M3: packer.LUT's arithmetic, eleven instructions.
	Products
)

// String is the part of a kernel's name.
func (c Codes) String() string {
	switch c {
	case Signed7:
		return "signed7"
	case Signed8:
		return "signed8"
	case Products:
		return "table"
	default:
		return fmt.Sprintf("codes%d", uint8(c))
	}
}

// Packed is a weight in fragment order.
type Packed struct {
	N, K, Group   int
	Blocks, Slabs int
	Codes         Codes
	Units         []byte    // [Blocks][Slabs][unit]
	Channel       []float32 // (64·Blocks): 4096·chan, since codes count 2^-9 and scales an eighth
}

// Supported says why the fast kernels do not take w, or returns nil: group size
// 128 or 64, which must divide K.
func Supported(w *packer.Int4Weight) error {
	if w.GroupSize != 128 && w.GroupSize != 64 || w.K%w.GroupSize != 0 || w.K < 1 || w.N < 1 {
		return &fault.Error{
			Err: kernels.ErrUnsupported, Found: fmt.Sprintf("INT4 weight (%d, %d) in groups of %d", w.N, w.K, w.GroupSize),
			Wanted: "groups of 128 or 64 that divide K",
		}
	}
	return nil
}

// Pack puts w into fragment order for the kernels of an arithmetic, packer.Exact or
// packer.LUT. It is the plain twin of repack.cu.
func Pack(w *packer.Int4Weight, a packer.Arithmetic) (*Packed, error) {
	if err := Supported(w); err != nil {
		return nil, err
	}
	blocks, slabs := shape(w.N, w.K)
	p := &Packed{N: w.N, K: w.K, Group: w.GroupSize, Blocks: blocks, Slabs: slabs, Codes: codesFor(w, a)}
	size := unitBytes(p.Group)
	p.Units = make([]byte, blocks*slabs*size)
	p.Channel = make([]float32, blocks*unitRows)
	chans, s8 := w.Split()
	for n, c := range chans {
		p.Channel[n] = c * 4096
	}
	for b := range blocks {
		for s := range slabs {
			unit := p.Units[(b*slabs+s)*size:][:size]
			p.packCodes(unit, w, b, s)
			p.packScales(unit[codeBytes:], s8, b, s)
		}
	}
	return p, nil
}

func codesFor(w *packer.Int4Weight, a packer.Arithmetic) Codes {
	if a == packer.LUT {
		return Products
	}
	for _, word := range w.Codes {
		if (word-0x11111111)&^word&0x88888888 != 0 { // a nibble is zero: -8
			return Signed8
		}
	}
	return Signed7
}

// packCodes fills the words of the unit of block b and slab s.
func (p *Packed) packCodes(unit []byte, w *packer.Int4Weight, b, s int) {
	for thread := range 128 {
		warp, g, t := thread/32, thread%32/4, thread%4
		for step := range 4 {
			for half := range 2 {
				n, k := b*unitRows+16*warp+g+8*half, s*slab+32*step+4*t
				if n >= p.N || k >= p.K {
					continue
				}
				word := uint32(0)
				for i := range 4 {
					word |= p.Codes.fields(i, code(w, n, k+i), code(w, n, k+16+i))
				}
				binary.LittleEndian.PutUint32(unit[step/2*2048+thread*16+step%2*8+half*4:], word)
			}
		}
	}
}

// code is q of row n and column k.
func code(w *packer.Int4Weight, n, k int) int {
	return int(w.Codes[n*(w.K/8)+k/8]>>(k%8*4)&15) - 8
}

// fields places code u of byte i of a word's first register and v of its second.
func (c Codes) fields(i, u, v int) uint32 {
	if c == Products {
		return c.field(u, 4*i, 8*i+7) | c.field(v, 16+4*i, 8*i+3)
	}
	return c.field(u, 8*i, 8*i+7) | c.field(v, 8*i+4, (8*i+11)%32)
}

// field is q as a magnitude from bit `at` on and a sign at bit `sign`.
func (c Codes) field(q, at, sign int) uint32 {
	if q >= 0 {
		return uint32(q) << at
	}
	magnitude := -q
	if c != Signed7 {
		magnitude--
	}
	return uint32(magnitude)<<at | 1<<sign
}

// packScales fills the scales of the unit of block b and slab s.
func (p *Packed) packScales(to []byte, s8 []uint8, b, s int) {
	groups, stored := slab/p.Group, p.K/p.Group
	for i := range to {
		half, group, row := i%2, i/2%groups, i/(2*groups)
		n, at := b*unitRows+row/8*16+row%8+8*half, s*groups+group
		if n < p.N && at < stored {
			to[i] = tensor.E4M3(tensor.E4M3Value(s8[n*stored+at]) / 8)
		}
	}
}

// Value is the number that the kernel multiplies for row n and column k, in units
// of the channel factor: 2^-9·q·e4m3(s8/8), or 2^-9·e4m3(q·e4m3(s8/8)) for Products.
func (p *Packed) Value(n, k int) float32 {
	unit := p.Units[(n/unitRows*p.Slabs+k/slab)*unitBytes(p.Group):]
	warp, g, half := n%unitRows/16, n%8, n%16/8
	step, t, register, i := k%slab/32, k%16/4, k%32/16, k%4
	word := binary.LittleEndian.Uint32(unit[step/2*2048+(32*warp+4*g+t)*16+step%2*8+half*4:])
	scale := tensor.E4M3Value(unit[codeBytes+((warp*8+g)*(slab/p.Group)+k%slab/p.Group)*2+half])
	q := p.Codes.code(word, register, i)
	if p.Codes == Products {
		return tensor.RoundE4M3(float32(q)*scale) / 512
	}
	return float32(q) / 512 * scale
}

// code is q of byte i of a word's first (0) or second register.
func (c Codes) code(word uint32, register, i int) int {
	at, sign := 8*i, 8*i+7
	switch {
	case c == Products && register == 0:
		at = 4 * i
	case c == Products:
		at, sign = 16+4*i, 8*i+3
	case register == 1:
		at, sign = 8*i+4, (8*i+11)%32
	}
	q := int(word >> at & 7)
	if word>>sign&1 == 0 {
		return q
	}
	if c != Signed7 {
		q++
	}
	return -q
}
