package format

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"quantize/tensor"
)

// tile is the edge, in words, of the squares in which words are transposed: two
// of them fit the first-level cache.
const tile = 32

// transposeWords writes words (rows, cols) transposed, little endian.
func transposeWords(words []uint32, rows, cols int) []byte {
	out := make([]byte, 4*len(words))
	shared(cols, tile, func(from, to int) {
		for r := 0; r < rows; r += tile {
			for c := from; c < to; c++ {
				for i := r; i < min(r+tile, rows); i++ {
					binary.LittleEndian.PutUint32(out[4*(c*rows+i):], words[i*cols+c])
				}
			}
		}
	})
	return out
}

// readTransposed is the inverse: data holds words (cols, rows), it returns them
// as (rows, cols).
func readTransposed(data []byte, rows, cols int) []uint32 {
	out := make([]uint32, rows*cols)
	shared(rows, tile, func(from, to int) {
		for c := 0; c < cols; c += tile {
			for r := from; r < to; r++ {
				for i := c; i < min(c+tile, cols); i++ {
					out[r*cols+i] = binary.LittleEndian.Uint32(data[4*(i*rows+r):])
				}
			}
		}
	})
	return out
}

// transposeNibbles turns eight words that hold eight rows of eight nibbles into
// eight words that hold its columns; it is its own inverse.
func transposeNibbles(w *[8]uint32) {
	var out [8]uint32
	for r, x := range w {
		for c := range out {
			out[c] |= x & 15 << (4 * r)
			x >>= 4
		}
	}
	*w = out
}

// The scales and zero points of GPTQ and AWQ lie (K/g, N); ours lie (N, K/g).

func halvesTransposed(h []uint16, rows, cols int) []byte {
	out := make([]byte, 2*len(h))
	for r := range rows {
		for c := range cols {
			binary.LittleEndian.PutUint16(out[2*(c*rows+r):], h[r*cols+c])
		}
	}
	return out
}

// scalesTransposed reads scales (cols, rows) of any float type as (rows, cols).
func scalesTransposed(p Part, rows, cols int) ([]float32, error) {
	flat := make([]float32, rows*cols)
	if err := tensor.Decode(flat, p.Data, p.DType); err != nil {
		return nil, err
	}
	out := make([]float32, len(flat))
	for r := range rows {
		for c := range cols {
			out[r*cols+c] = flat[c*rows+r]
		}
	}
	return out, nil
}

// shared hands [0, n) out in steps to all cores.
func shared(n, step int, do func(from, to int)) {
	var at atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+step-1)/step) {
		wg.Go(func() {
			for {
				from := int(at.Add(int64(step))) - step
				if from >= n {
					return
				}
				do(from, min(from+step, n))
			}
		})
	}
	wg.Wait()
}
