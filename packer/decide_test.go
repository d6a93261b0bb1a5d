package packer

import (
	"errors"
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	fits := []LinearShape{{"a", 128, 256}, {"b", 64, 128}}
	one := append([]LinearShape{{"odd", 128, 192}}, fits...) // one layer makes all groups smaller
	for _, c := range []struct {
		name    string
		scheme  Scheme
		linears []LinearShape
		wanted  int
		grid    Grid
		want    Decision // Note: a part of it
	}{
		{"128 divides", W4A8, fits, 0, GridLUT, Decision{W4A8, 128, GridLUT, ""}},
		{"exact", W4A8, fits, 0, GridExact, Decision{W4A8, 128, GridExact, ""}},
		{"one layer of 64", W4A8, one, 0, GridLUT, Decision{W4A16, 64, GridWeightOnly, "on the grid weight-only, not lut"}},
		{"one layer of 64, exact", W4A8, one, 0, GridExact, Decision{W4A16, 64, GridWeightOnly, "not exact"}},
		{"64 by number ships W4A8", W4A8, fits, 64, GridLUT, Decision{W4A8, 64, GridLUT, ""}},
		{"w4a16", W4A16, one, 0, GridWeightOnly, Decision{W4A16, 64, GridWeightOnly, ""}},
		{"fp8", FP8, one, 0, 0, Decision{Scheme: FP8}},
		{"an unset grid stays one", W4A8, one, 0, 0, Decision{W4A16, 64, 0, "declares W4A16"}},
	} {
		got, err := Decide(c.scheme, c.linears, c.wanted, c.grid)
		if err != nil || (got.Note == "") != (c.want.Note == "") || !strings.Contains(got.Note, c.want.Note) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		got.Note = c.want.Note
		if got != c.want {
			t.Errorf("%s: found %+v, wanted %+v", c.name, got, c.want)
		}
	}
	if _, err := Decide(W4A8, one, 128, GridLUT); !errors.Is(err, ErrOption) {
		t.Errorf("128 for 192 input features: %v", err)
	}
}
