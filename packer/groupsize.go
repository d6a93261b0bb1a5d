package packer

import (
	"fmt"
	"strings"

	"quantize/internal/fault"
)

// LinearShape names a linear layer and gives its output and input features.
type LinearShape struct {
	Name string
	N, K int
}

// GroupSizes are the group sizes offered, best supported first.
var GroupSizes = []int{128, 64, 32}

// ChooseGroupSize returns the group size for the linears of a model. wanted 0 is
// "auto": the largest of [GroupSizes] that divides K of all of them. A wanted
// size that does not divide is ErrOption, naming the layers and the way out.
func ChooseGroupSize(linears []LinearShape, wanted int) (int, error) {
	if wanted == 0 {
		for _, g := range GroupSizes {
			if len(undivided(linears, g)) == 0 {
				return g, nil
			}
		}
		g := GroupSizes[len(GroupSizes)-1]
		return 0, &fault.Error{
			Err: ErrOption, Where: "group_size auto", Found: describe(undivided(linears, g)),
			Wanted: fmt.Sprintf("input features divisible by %d", g), Hint: "leave these layers unquantized, or use scheme fp8",
		}
	}
	if !validGroup(wanted) {
		return 0, &fault.Error{Err: ErrOption, Where: "group_size", Found: fmt.Sprint(wanted), Wanted: "auto, 128, 64 or 32"}
	}
	if left := undivided(linears, wanted); len(left) > 0 {
		hint := "leave these layers unquantized, or use scheme fp8"
		if g, err := ChooseGroupSize(linears, 0); err == nil {
			hint = fmt.Sprintf("use group_size: auto, which takes %d", g)
		}
		return 0, &fault.Error{
			Err: ErrOption, Where: fmt.Sprintf("group_size %d", wanted), Found: describe(left),
			Wanted: fmt.Sprintf("input features divisible by %d", wanted), Hint: hint,
		}
	}
	return wanted, nil
}

func validGroup(g int) bool { return g == 128 || g == 64 || g == 32 }

func undivided(linears []LinearShape, g int) []LinearShape {
	var left []LinearShape
	for _, l := range linears {
		if l.K%g != 0 {
			left = append(left, l)
		}
	}
	return left
}

// describe names up to four layers.
func describe(ls []LinearShape) string {
	var b strings.Builder
	for i, l := range ls {
		if i == 4 {
			fmt.Fprintf(&b, " and %d more", len(ls)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s with %d input features", l.Name, l.K)
	}
	return b.String()
}
