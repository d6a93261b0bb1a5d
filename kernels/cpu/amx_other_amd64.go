//go:build !noasm && !linux

package cpu

// tilesAllowed is false where nobody has tried.
func tilesAllowed() bool { return false }
