package kernels

import (
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/packer"
	"quantize/tensor"
)

// Check is the first step of every Attention: it reports with packer.ErrOption a
// format, and with packer.ErrInvalid sizes or matrices, that do not fit together.
func (a *Attention) Check(dst, lse, q, k, v tensor.Matrix) error {
	if a.Batch < 0 || a.Queries < 0 || a.Keys < 0 || a.Heads < 1 || a.KVHeads < 1 || a.Heads%a.KVHeads != 0 || a.HeadDim < 1 {
		return badAttention("attention", fmt.Sprintf("%d sequences of %d queries and %d keys, %d heads on %d of %d channels",
			a.Batch, a.Queries, a.Keys, a.Heads, a.KVHeads, a.HeadDim), "KV heads that divide the heads, and nothing negative")
	}
	if s := float64(a.Scale); math.IsNaN(s) || math.IsInf(s, 0) {
		return badAttention("scale", fmt.Sprint(a.Scale), "a finite number")
	}
	if a.Window < 0 || a.Window > 0 && !a.Causal {
		return badAttention("window", fmt.Sprintf("%d, causal %v", a.Window, a.Causal), "a positive window of a causal attention, or 0")
	}
	if err := a.Format.Validate(a.HeadDim); err != nil {
		return err
	}
	n, m := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
	for _, x := range []struct {
		name       string
		m          tensor.Matrix
		rows, cols int
	}{
		{"queries", q, a.Batch * a.Queries, n},
		{"output", dst, a.Batch * a.Queries, n},
		{"keys", k, a.Batch * a.Keys, m},
		{"values", v, a.Batch * a.Keys, m},
		{"lse", lse, a.Batch * a.Queries, a.Heads},
	} {
		if x.name == "lse" && x.m.Cols == 0 {
			continue
		}
		if x.m.Rows != x.rows || x.m.Cols != x.cols {
			return badAttention(x.name, fmt.Sprintf("(%d, %d)", x.m.Rows, x.m.Cols), fmt.Sprintf("(%d, %d)", x.rows, x.cols))
		}
	}
	if err := a.checkMask(); err != nil {
		return err
	}
	return a.checkKV(m)
}

func (a *Attention) checkMask() error {
	m := a.Mask
	if m == nil {
		return nil
	}
	if m.QueryBlock < 1 || m.KeyBlock < 1 {
		return badAttention("block mask", fmt.Sprintf("blocks of %d x %d", m.QueryBlock, m.KeyBlock), "at least 1 x 1")
	}
	if want := a.Batch * a.Heads * ceilDiv(a.Queries, m.QueryBlock) * ceilDiv(a.Keys, m.KeyBlock); len(m.Keep) != want {
		return badAttention("block mask", fmt.Sprintf("%d blocks", len(m.Keep)), fmt.Sprint(want))
	}
	return nil
}

func (a *Attention) checkKV(channels int) error {
	for _, x := range []struct {
		name   string
		values []float32
	}{{"key scales", a.KV.KeyScales}, {"key means", a.KV.KeyMeans}, {"value means", a.KV.ValueMeans}} {
		if len(x.values) != 0 && len(x.values) != channels {
			return badAttention(x.name, fmt.Sprint(len(x.values)), fmt.Sprintf("%d, one a channel of the cache, or none", channels))
		}
	}
	for _, s := range []float32{a.KV.KScale, a.KV.VScale} {
		if a.Format.KV.Format == packer.KVFP8 && !(s > 0 && s <= math.MaxFloat32) {
			return badAttention("scale of an FP8 cache", fmt.Sprint(s), "a positive number")
		}
	}
	return nil
}

func badAttention(where, found, wanted string) error {
	return &fault.Error{Err: packer.ErrInvalid, Where: where, Found: found, Wanted: wanted}
}
