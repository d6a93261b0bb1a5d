package kernels_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// vllmScales counts what vLLM holds of the scales of W4A8 linears, and how much of it is
// bit-equal to our reading of the checkpoint (docs/methods.md 1.17).
type vllmScales struct {
	Linears    int `json:"linears"`
	Rows       int `json:"rows"` // chan, and 8*chan as the kernel has it
	RowsEqual  int `json:"rows_equal"`
	Groups     int `json:"groups"` // s8
	GroupEqual int `json:"groups_equal"`
	Bytes      int `json:"table_bytes"` // e4m3(q*s8/8), q = -8..-1
	BytesEqual int `json:"table_bytes_equal"`
}

// equal says whether all is, chan included or not.
func (s vllmScales) equal(chans bool) bool {
	return s.Linears > 0 && (!chans || s.RowsEqual == s.Rows) && s.GroupEqual == s.Groups && s.BytesEqual == s.Bytes
}

// vllmParts are the linears that vLLM holds as one weight, rows in this order; experts one after another.
var vllmParts = map[string][]model.Role{
	"qkv_proj": {model.RoleQ, model.RoleK, model.RoleV}, "o_proj": {model.RoleO},
	"gate_up_proj": {model.RoleGate, model.RoleUp}, "down_proj": {model.RoleDown},
	"w13": {model.RoleExpertGate, model.RoleExpertUp}, "w2": {model.RoleExpertDown},
}

type place struct {
	layer  int
	role   model.Role
	expert int
}

// compareScales demands every W4A8 linear of r in the dump.
func compareScales(r, dump *checkpoint.Reader) (total vllmScales, err error) {
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		return total, err
	}
	q, err := packer.ParseQuantizationConfig(r.ConfigJSON())
	if err != nil {
		return total, err
	}
	weights := map[place]*packer.Int4Weight{}
	for _, e := range model.Tensors(cfg) {
		if e.Kind != model.KindLinear {
			continue
		}
		w, err := packer.ReadWeight(r, e.Module, q)
		if err != nil {
			return total, err
		}
		if w, ok := w.(*packer.Int4Weight); ok && w.FP8Activations {
			weights[place{e.Layer, e.Role, e.Expert}] = w
		}
	}
	for _, name := range dump.Names() {
		module, ok := strings.CutSuffix(name, ".s8")
		if !ok {
			continue
		}
		roles, ok := vllmParts[module[strings.LastIndex(module, ".")+1:]]
		if !ok {
			return total, fmt.Errorf("%s: vLLM has a W4A8 linear of a name that we do not know", module)
		}
		for expert := range max(1, cfg.Experts) {
			var parts []*packer.Int4Weight
			for _, role := range roles {
				at := place{cfg.LayerOf(module), role, expert}
				if w := weights[at]; w != nil {
					parts = append(parts, w)
					delete(weights, at)
				}
			}
			if len(parts) == 0 && expert > 0 {
				break // a linear of all tokens
			}
			if len(parts) != len(roles) {
				return total, fmt.Errorf("%s: %d W4A8 linears of ours, want %d", module, len(parts), len(roles))
			}
			if err := total.add(dump, module, expert, parts); err != nil {
				return total, fmt.Errorf("%s: %w", module, err)
			}
		}
	}
	if len(weights) > 0 {
		return total, fmt.Errorf("%d of our W4A8 linears are not in vLLM's dump", len(weights))
	}
	return total, nil
}

// add compares the part of a dumped weight that belongs to an expert, all of it where there are none.
func (s *vllmScales) add(dump *checkpoint.Reader, module string, expert int, parts []*packer.Int4Weight) error {
	var chans []float32
	var s8 []uint8
	for _, w := range parts {
		c, g := w.Split()
		chans, s8 = append(chans, c...), append(s8, g...)
	}
	rows, groups := len(chans), len(s8)/len(chans)
	table, eight := make([]uint8, 8*len(s8)), make([]float32, rows)
	for n := range rows {
		eight[n] = 8 * chans[n]
		for g := range groups {
			// A row factor of 1/8 leaves the table's own values.
			products := packer.Products(packer.LUT, 0, s8[n*groups+g], 1.0/8)
			for i, p := range products[:8] {
				table[8*(g*rows+n)+i] = tensor.E4M3(p)
			}
		}
	}
	bytes := func(x []float32) []uint8 {
		raw := make([]uint8, 4*len(x))
		if err := tensor.Encode(raw, x, tensor.F32); err != nil {
			panic(err) // our own lengths
		}
		return raw
	}
	var err error
	equal := func(part string, want []uint8, size int) int {
		raw, problem := dump.Raw(module+"."+part, nil)
		if problem == nil && len(raw) < (expert+1)*len(want) {
			problem = fmt.Errorf("%s: %d bytes, want %d or more", part, len(raw), (expert+1)*len(want))
		}
		if problem != nil {
			err = errors.Join(err, problem)
			return 0
		}
		return equalParts(raw[expert*len(want):][:len(want)], want, size)
	}
	s.Linears += len(parts)
	s.Rows += 2 * rows
	s.RowsEqual += equal("chan", bytes(chans), 4) + equal("chan8", bytes(eight), 4)
	s.Groups += len(s8)
	s.GroupEqual += equal("s8", s8, 1)
	s.Bytes += len(table)
	s.BytesEqual += equal("table", table, 1)
	return err
}

// equalParts counts the elements of so many bytes that are the same.
func equalParts(a, b []uint8, size int) (same int) {
	for i := 0; i < len(a); i += size {
		if slices.Equal(a[i:i+size], b[i:i+size]) {
			same++
		}
	}
	return same
}

func hasExperts(t *testing.T, r *checkpoint.Reader) bool {
	t.Helper()
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Experts > 0
}
