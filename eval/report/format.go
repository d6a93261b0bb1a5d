package report

import (
	"fmt"
	"math"
	"strconv"
)

// none stands where there is no number.
const none = "–"

// exact writes a number so that it can be read back to the bit.
func exact(v float64) string {
	switch {
	case math.IsNaN(v):
		return none
	case math.IsInf(v, 1):
		return "exact"
	case math.IsInf(v, -1):
		return none
	}
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// fixed writes a number with so many decimals.
func fixed(v float64, decimals int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return exact(v)
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// percent writes a share; signed tells gains from losses.
func percent(v float64, signed bool) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return none
	}
	if signed {
		return fmt.Sprintf("%+.2f %%", 100*v)
	}
	return fmt.Sprintf("%.2f %%", 100*v)
}

// size writes bytes for people: 268.4 MB.
func size(v float64) string {
	if math.IsNaN(v) {
		return none
	}
	units := []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", v)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// Cell is a place of a table.
type Cell struct {
	Text   string
	Number bool // aligned to the right
	Name   bool // never broken
	Hash   bool // may be broken anywhere
}

func text(s string) Cell { return Cell{Text: s} }

// name is for a word of a fixed set and what a reader may look for: a check, a linear.
func name(s string) Cell { return Cell{Text: s, Name: true} }

func number(s string) Cell { return Cell{Text: s, Number: true} }

func integer[T int | int64](v T) Cell { return number(strconv.FormatInt(int64(v), 10)) }

func value(v float64) Cell { return number(exact(v)) }
