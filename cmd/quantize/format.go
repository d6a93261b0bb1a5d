package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"quantize/internal/fault"
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

// parseSize reads the bytes of a flag as people write them: 4G, 1.5 GB, 512MiB; "" is 0.
func parseSize(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, &usageError{&fault.Error{Where: flag, Found: strconv.Quote(s), Wanted: "a size above zero, like 4G, 1.5GB or 512MiB"}}
	}
	return int64(n), nil
}
