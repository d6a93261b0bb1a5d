//go:build !linux

package atomicfile

// reserve gives f its size; the blocks come as they are written.
func reserve(f File, size int64) error { return f.Truncate(size) }
