//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
)

// TestCachedSpeed times prefill attention over an INT4 cache and what fills the cache, where
// QUANTIZE_CACHED_SPEED is set: 32 heads on 8 of 128 channels, one group a head. The result is
// checked on a small shape before.
func TestCachedSpeed(t *testing.T) {
	if os.Getenv("QUANTIZE_CACHED_SPEED") == "" {
		t.Skip("QUANTIZE_CACHED_SPEED is not set")
	}
	onDevice(t, func(s *Session) error {
		var faults []error
		for _, symmetric := range []bool{false, true} {
			l := KVLayout{HeadDim: 128, Group: 128, Symmetric: symmetric}
			if err := s.checkCached(l, 1); err != nil {
				return err
			}
			for _, shape := range []AttentionShape{{4, 4096, 128, false}, {4, 4096, 128, true}, {1, 16384, 128, false}, {1, 16384, 128, true}} {
				faults = append(faults, s.timeCached(l, shape))
			}
		}
		return errors.Join(faults...)
	})
}

func (s *Session) timeCached(l KVLayout, shape AttentionShape) error {
	const heads, kvHeads = 32, 8
	b, err := s.NewAttentionBench(shape, prefillFormats()[0]) // for its operands
	if err != nil {
		return err
	}
	defer func() { _ = b.Free() }()
	cache, err := s.NewKVCache(l, shape.Batch, kvHeads, shape.Tokens)
	if err != nil {
		return err
	}
	starts, err := AllocOf(s, make([]int32, shape.Batch))
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(cache.Free(s), s.Free(starts)) }()
	fill := func() error {
		return s.AppendKV(cache, NewKV{K: b.inputs[0][1], V: b.inputs[0][2], BF16: true, Tokens: shape.Tokens, Starts: starts}, false)
	}
	attend := func() error {
		return s.AttendCached(cache, CachedQueries{
			Q: b.inputs[0][0], Heads: heads, Queries: shape.Tokens, Tokens: shape.Tokens, Causal: shape.Causal, Scale: 0.088, O: b.o[0],
		}, false)
	}
	var us [2]float64
	for i, f := range []func() error{fill, attend} {
		var times []float64
		for range 13 { // the first two warm up
			d, err := s.Time(f)
			if err != nil {
				return err
			}
			times = append(times, d.Seconds()*1e6)
		}
		times = times[2:]
		slices.Sort(times)
		us[i] = times[len(times)/2]
	}
	flop := 4 * float64(shape.Batch) * heads * float64(shape.Tokens) * float64(shape.Tokens) * float64(l.HeadDim)
	if shape.Causal {
		flop /= 2
	}
	fmt.Printf("%-22s %2d x %5d causal %-5t  fill %7.1f us, attend %8.1f us, %4.0f TFLOP/s\n", cachedKernel(l), shape.Batch, shape.Tokens, shape.Causal, us[0], us[1], flop/us[1]/1e6)
	return nil
}
