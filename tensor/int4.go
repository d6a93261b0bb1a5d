package tensor

// PackInt4 packs codes q, each in [-8, 7], eight to a word: dst[j] holds
// q[8j] ... q[8j+7], lowest nibble first, each as q+8. That is the layout of
// compressed-tensors' weight_packed and, transposed, of GPTQ's qweight:
//
//	bit   31..28  27..24  ...  7..4    3..0
//	      q[7]+8  q[6]+8  ...  q[1]+8  q[0]+8
//
// It needs len(q) = 8*len(dst); another length or a code out of range is a bug
// of the caller and panics.
func PackInt4(dst []uint32, q []int8) {
	if len(q) != 8*len(dst) {
		panic("tensor: PackInt4: need 8 codes for each word")
	}
	const each = 0x0101010101010101
	var seen uint64
	for j := range dst {
		c := q[8*j : 8*j+8 : 8*j+8]
		x := uint64(uint8(c[0])) | uint64(uint8(c[1]))<<8 | uint64(uint8(c[2]))<<16 | uint64(uint8(c[3]))<<24 |
			uint64(uint8(c[4]))<<32 | uint64(uint8(c[5]))<<40 | uint64(uint8(c[6]))<<48 | uint64(uint8(c[7]))<<56
		x = (x&(0x7F*each) + 8*each) ^ x&(0x80*each) // add 8 to each byte, no carry between them
		seen |= x
		x = (x | x>>4) & 0x00FF00FF00FF00FF // gather the low nibbles
		x = (x | x>>8) & 0x0000FFFF0000FFFF
		dst[j] = uint32(x | x>>16)
	}
	if seen&(0xF0*each) != 0 {
		panic("tensor: PackInt4: code outside [-8, 7]")
	}
}

// UnpackInt4 is the inverse of [PackInt4]; every word is valid. It needs
// len(dst) = 8*len(w).
func UnpackInt4(dst []int8, w []uint32) {
	if len(dst) != 8*len(w) {
		panic("tensor: UnpackInt4: need room for 8 codes for each word")
	}
	for j, v := range w {
		// Spread the nibbles to bytes, then subtract 8 from each: the bit set
		// above keeps a borrow inside its byte and is the sign bit, inverted.
		x := uint64(v)
		x = (x | x<<16) & 0x0000FFFF0000FFFF
		x = (x | x<<8) & 0x00FF00FF00FF00FF
		x = (x | x<<4) & 0x0F0F0F0F0F0F0F0F
		x = (x | 0x8080808080808080) - 0x0808080808080808 ^ 0x8080808080808080
		d := dst[8*j : 8*j+8 : 8*j+8]
		d[0], d[1], d[2], d[3] = int8(x), int8(x>>8), int8(x>>16), int8(x>>24)
		d[4], d[5], d[6], d[7] = int8(x>>32), int8(x>>40), int8(x>>48), int8(x>>56)
	}
}
