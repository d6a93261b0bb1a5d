//go:build !noasm

package cpu

import "golang.org/x/sys/unix"

// tilesAllowed asks Linux for the register state of tiles, which a process has
// only after asking (Documentation/arch/x86/xstate.rst, kernel 5.16 and later).
func tilesAllowed() bool {
	const (
		requestPermission = 0x1023 // ARCH_REQ_XCOMP_PERM
		tileData          = 18     // XFEATURE_XTILE_DATA
	)
	_, _, failed := unix.RawSyscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return failed == 0
}
