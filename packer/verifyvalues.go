package packer

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"quantize/model"
	"quantize/tensor"
)

// finite reads every tensor of the model that is not quantized. Those that the
// model does not know may hold anything.
func (v *verifier) finite(ctx context.Context) error {
	var bad []string
	checked := 0
	for _, e := range model.Tensors(v.config) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, quantized := v.quantity[e.Module]; quantized && e.Kind == model.KindLinear {
			continue
		}
		info, err := v.r.Info(e.Name)
		if err != nil || !info.DType.IsFloat() {
			continue // told by names or shapes
		}
		checked++
		if err := v.r.Finite(e.Name); err != nil {
			bad = append(bad, err.Error())
		}
	}
	v.item(ItemFinite, fmt.Sprintf("%d tensors in full precision without NaN or infinity", checked), bad)
	return nil
}

// values reads every quantized linear whose tensors are as they should be.
func (v *verifier) values(ctx context.Context) error {
	f := valueFaults{lowest: -8}
	if v.manifest != nil {
		f.lowest = v.manifest.Grid.lowest()
	}
	for _, module := range v.order {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := v.quantity[module]
		if !l.intact {
			continue
		}
		read := func(suffix string) []byte {
			raw, err := v.r.Raw(module+suffix, nil)
			if err != nil {
				f.codes = append(f.codes, err.Error())
			}
			return raw
		}
		if l.scheme == FP8 {
			f.fp8(l, read(weightSuffix), read(scaleSuffix))
		} else {
			f.int4(l, read(packedSuffix), read(scaleSuffix), read(shapeSuffix))
		}
	}
	if f.int4Layers > 0 {
		v.item(ItemShape, "is [N, K] everywhere", f.shape)
	}
	v.item(ItemScales, fmt.Sprintf("%d scales finite and positive", f.scaleCount), f.scales)
	v.item(ItemCodes, fmt.Sprintf("%d codes in range", f.codeCount), f.codes)
	if f.int4Layers > 0 {
		v.item(ItemGrid, fmt.Sprintf("s8*chan is the stored scale in all rows, one group of each at s8 = 448; %d rows at the floor", f.floorRows), f.grid)
	}
	return nil
}

type valueFaults struct {
	shape, scales, codes, grid []string
	scaleCount, codeCount      int64
	int4Layers, floorRows      int
	lowest                     int // smallest code of the grid
}

func (f *valueFaults) int4(l linear, codes, scales, shape []byte) {
	f.int4Layers++
	if len(shape) != 16 || len(codes) != l.N*l.K/2 || len(scales) != 2*l.N*(l.K/l.group) {
		return // a read failed and was told
	}
	if n, k := binary.LittleEndian.Uint64(shape), binary.LittleEndian.Uint64(shape[8:]); n != uint64(l.N) || k != uint64(l.K) {
		f.shape = append(f.shape, fmt.Sprintf("%s%s: found [%d, %d], wanted [%d, %d]", l.Name, shapeSuffix, int64(n), int64(k), l.N, l.K))
	}
	w := &Int4Weight{N: l.N, K: l.K, GroupSize: l.group, Scales: make([]uint16, len(scales)/2)}
	sound := true
	for i := range w.Scales {
		w.Scales[i] = binary.LittleEndian.Uint16(scales[2*i:])
		s := tensor.BF16Value(w.Scales[i])
		if !(s > 0 && s <= math.MaxFloat32) {
			f.scales = append(f.scales, fmt.Sprintf("%s%s element %d: found %g, wanted a finite positive scale", l.Name, scaleSuffix, i, s))
			sound = false
		}
	}
	f.scaleCount += int64(len(w.Scales))
	f.codeCount += int64(l.N) * int64(l.K)
	if f.lowest > -8 { // otherwise four bits hold nothing but codes
		for i, b := range codes {
			if b&0x0f == 0 || b&0xf0 == 0 {
				f.codes = append(f.codes, fmt.Sprintf("%s%s byte %d: found code -8, wanted %d to 7, the manifest's grid", l.Name, packedSuffix, i, f.lowest))
				break
			}
		}
	}
	if sound {
		f.reload(l, w)
	}
}

// reload derives chan and s8 as vLLM does and demands that they give the stored
// scales again, bit for bit, and that one group of each row above the floor has
// s8 = 448. A fault is told once per layer, for its first row.
func (f *valueFaults) reload(l linear, w *Int4Weight) {
	chans, s8 := w.Split()
	groups := l.K / l.group
	moved, first := 0, ""
	for n, ch := range chans {
		floor, top := ch == floorChan, uint8(0)
		if floor {
			f.floorRows++
		}
		rowMoved := false
		for g := n * groups; g < (n+1)*groups; g++ {
			top = max(top, s8[g])
			product := tensor.E4M3Value(s8[g]) * ch
			same := tensor.BF16Value(w.Scales[g]) == product
			if floor { // a row below 1/512: the product need not be a BF16
				same = w.Scales[g] == tensor.BF16Bits(product)
			}
			if !same {
				if first == "" {
					first = fmt.Sprintf("row %d group %d stores %g and reloads as %g", n, g%groups, tensor.BF16Value(w.Scales[g]), product)
				}
				rowMoved = true
			}
		}
		if !floor && top != 0x7e && !rowMoved {
			first, rowMoved = fmt.Sprintf("row %d has no group at s8 = 448", n), true
		}
		if rowMoved {
			moved++
		}
	}
	if moved > 0 {
		f.grid = append(f.grid, fmt.Sprintf("%s: %d of %d rows are off the grid, first: %s", l.Name, moved, l.N, first))
	}
}

func (f *valueFaults) fp8(l linear, codes, scales []byte) {
	if len(codes) != l.N*l.K {
		return
	}
	for i, c := range codes {
		if c&0x7f == 0x7f {
			f.codes = append(f.codes, fmt.Sprintf("%s%s element %d: found NaN, wanted a number", l.Name, weightSuffix, i))
		}
	}
	values := make([]float32, l.N)
	if err := tensor.Decode(values, scales, tensor.F32); err != nil {
		f.scales = append(f.scales, l.Name+scaleSuffix+": "+err.Error())
	}
	for i, s := range values {
		if !(s > 0 && s <= math.MaxFloat32) {
			f.scales = append(f.scales, fmt.Sprintf("%s%s element %d: found %g, wanted a finite positive scale", l.Name, scaleSuffix, i, s))
		}
	}
	f.scaleCount += int64(l.N)
	f.codeCount += int64(len(codes))
}
