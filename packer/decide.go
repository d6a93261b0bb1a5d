package packer

import "fmt"

// Decision is what the INT4 weights of a model are rounded for. It is made before
// the first weight is read: codes are chosen against the products of the kernels
// that the written configuration files ask for.
type Decision struct {
	Scheme Scheme // what config.json declares
	Group  int    // 0 for FP8
	Grid   Grid   // 0 for FP8
	Note   string // where that is not what was asked for: what it is, and why
}

// Decide settles scheme, group size and grid for linears. wanted is a group size,
// 0 for "auto", and grid what the codes of scheme are to be chosen against.
//
// All linears of a checkpoint are in one group of its configuration, so the decision
// is about the model: one linear whose K 128 does not divide makes every group
// smaller. With groups that auto made other than 128 no W4A8 configuration is
// written, since no W4A8 kernel reads one, and nothing is left that multiplies lut's
// or exact's products: W4A8 falls to W4A16, and its grid to [GridWeightOnly]. A size
// that was asked for by number is kept with its W4A8 configuration, which
// transformers reads.
func Decide(scheme Scheme, linears []LinearShape, wanted int, grid Grid) (Decision, error) {
	if scheme == FP8 {
		return Decision{Scheme: FP8}, nil
	}
	group, err := ChooseGroupSize(linears, wanted)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Scheme: scheme, Group: group, Grid: grid}
	if scheme != W4A8 || group == 128 || wanted != 0 {
		return d, nil
	}
	d.Scheme = W4A16
	d.Note = fmt.Sprintf("group size %d: config.json declares W4A16, since W4A8 kernels have group size 128 only", group)
	if grid.known() && grid != GridWeightOnly {
		d.Grid = GridWeightOnly
		d.Note += fmt.Sprintf("; codes are chosen on the grid %s, not %s", d.Grid, grid)
	}
	return d, nil
}
