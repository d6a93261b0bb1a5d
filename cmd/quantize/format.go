package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size writes bytes for people: 268.4 MB.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// peakRSS is the largest resident size of this process so far, in bytes; 0 where
// the system does not tell.
func peakRSS() int64 {
	kb, _, _ := strings.Cut(procField("/proc/self/status", "VmHWM"), " ")
	n, err := strconv.ParseInt(kb, 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
