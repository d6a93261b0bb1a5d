// Package alloc measures what a function allocates, for the tests that hold
// parsers to it: a file that lies about a length must not cost more than its own
// size lets expect.
package alloc

import (
	"fmt"
	"runtime"
)

// perByte is the multiple of a file's size that a parser may allocate, and
// constant what it may need for any file: decoders, buffers, regular expressions.
const (
	perByte  = 4
	constant = 1 << 20
)

// allocated is what f allocates in all, also what is freed again. Other goroutines
// are counted too: the caller keeps them quiet.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Check runs a parser of files whose sizes are size together. It is an error to
// allocate more than perByte times that and constant.
func Check(size int, parse func()) error {
	if n, limit := allocated(parse), perByte*uint64(size)+constant; n > limit {
		return fmt.Errorf("%d bytes were allocated for %d bytes of input, wanted at most %d", n, size, limit)
	}
	return nil
}
