package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"quantize/checkpoint"
	"quantize/packer"
)

// errDiffers is a fault of this program: what was written is not what was meant.
var errDiffers = errors.New("differs from the source")

// verify opens the output and compares every weight and every other tensor with
// the source.
func (c *converter) verify(ctx context.Context, dir string) (err error) {
	r, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	written, err := Open(r)
	if err != nil {
		return err
	}
	if written.Format != c.to || !slices.Equal(written.Quantized, c.Quantized) {
		return fmt.Errorf("%w: read back as %s with %d linears", errDiffers, summary(written.Format), len(written.Quantized))
	}
	for _, l := range c.Quantized {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		want, err := c.Read(l)
		if err != nil {
			return err
		}
		if want, err = c.prepare(l, want); err != nil {
			return err
		}
		got, err := written.Read(l)
		if err != nil {
			return err
		}
		if err := Same(want, got); err != nil {
			return fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	var buf []byte
	hashes := c.writer.Hashes()
	for _, name := range r.Names() {
		if buf, err = r.Raw(name, buf); err != nil {
			return err
		}
		if sum := sha256.Sum256(buf); hex.EncodeToString(sum[:]) != hashes[name] {
			return fmt.Errorf("%w: %s is not as written", errDiffers, name)
		}
	}
	return nil
}

// Same demands that two weights are one, whatever formats they come from: equal
// codes and zero points, and scales equal bit for bit except that of a group whose
// weights are all zero.
func Same(a, b packer.Weight) error {
	if ga, gb := grouped(a), grouped(b); ga != nil && gb != nil {
		if err := ga.same(gb); err != nil {
			return fmt.Errorf("%w: %w", errDiffers, err)
		}
		sa, okA := a.(*StaticWeight)
		sb, okB := b.(*StaticWeight)
		if okA && okB && (sa.InputScale != sb.InputScale || sa.WeightScale2 != sb.WeightScale2 || !bytes.Equal(sa.PreQuantScale, sb.PreQuantScale)) {
			return fmt.Errorf("%w: input_scale, weight_scale_2 or pre_quant_scale", errDiffers)
		}
		return nil
	}
	ca, sa := fp8Data(a)
	cb, sb := fp8Data(b)
	na, ka := a.Shape()
	nb, kb := b.Shape()
	if ca == nil || cb == nil || describe(a) != describe(b) || na != nb || ka != kb {
		return fmt.Errorf("%w: %s, not %s", errDiffers, describe(b), describe(a))
	}
	if !bytes.Equal(ca, cb) || !slices.Equal(sa, sb) {
		return fmt.Errorf("%w: FP8 codes or scales", errDiffers)
	}
	return nil
}

func fp8Data(w packer.Weight) (codes []uint8, scales []float32) {
	switch w := w.(type) {
	case *packer.FP8Weight:
		return w.Codes, w.Scales
	case *FP8TensorWeight:
		return w.Codes, []float32{w.Scale, w.InputScale}
	case *FP8BlockWeight:
		return w.Codes, w.Scales
	}
	return nil, nil
}
