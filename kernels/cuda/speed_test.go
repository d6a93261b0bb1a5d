//go:build cuda

package cuda_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"quantize/kernels/cuda"
	"quantize/packer"
)

// TestCeilings prints what the card can do. It and TestTune measure, and run
// only when QUANTIZE_TUNE is set (device.sh).
func TestCeilings(t *testing.T) {
	if os.Getenv("QUANTIZE_TUNE") == "" {
		t.Skip("QUANTIZE_TUNE is not set")
	}
	d := open(t)
	fmt.Printf("%+v\n", d.Properties())
	must(t, d.Run(func(s *cuda.Session) error {
		bandwidth, err := s.ReadBandwidth()
		if err != nil {
			return err
		}
		fmt.Printf("read bandwidth %.0f GB/s\n", bandwidth/1e9)
		for _, n := range []int{16, 32, 64, 128} {
			for _, groups := range []int{1, 2} {
				for _, small := range []bool{false, true} {
					cycles, flops, err := s.TensorRate(n, groups, small)
					if err != nil {
						return err
					}
					fmt.Printf("wgmma n%-3d %d warpgroups, weights are codes: %-5t %6.1f cycles (ideal %d), %5.0f TFLOP/s\n", n, groups, small, cycles, n/2, flops/1e12)
				}
			}
		}
		return nil
	}))
}

// TestTune times every kernel that suits a number of tokens, or the dispatched one where
// QUANTIZE_DISPATCHED is set: QUANTIZE_TUNE is a list of M, QUANTIZE_SHAPES of NxK. The
// lines, as JSON, are what the dispatch table is filled from.
func TestTune(t *testing.T) {
	if os.Getenv("QUANTIZE_TUNE") == "" {
		t.Skip("QUANTIZE_TUNE is not set")
	}
	tokens := numbers(t, os.Getenv("QUANTIZE_TUNE"))
	dispatched := os.Getenv("QUANTIZE_DISPATCHED") != ""
	low, arithmetic := -8, packer.Exact
	switch os.Getenv("QUANTIZE_CODES") {
	case "signed7":
		low = -7
	case "table":
		arithmetic = packer.LUT
	}
	var all []*cuda.Timing
	must(t, open(t).Run(func(s *cuda.Session) error {
		bandwidth, err := s.ReadBandwidth()
		if err != nil {
			return err
		}
		for shape := range strings.SplitSeq(os.Getenv("QUANTIZE_SHAPES"), ",") {
			var n, k int
			if _, err := fmt.Sscanf(shape, "%dx%d", &n, &k); err != nil {
				return fmt.Errorf("QUANTIZE_SHAPES: %q is not NxK: %w", shape, err)
			}
			b, err := s.NewBench(n, k, tokens[len(tokens)-1], low, arithmetic)
			if err != nil {
				return err
			}
			for _, m := range tokens {
				candidates := b.Candidates(m)
				if dispatched {
					candidates = []cuda.Config{cuda.Dispatch(m, n, k, arithmetic)}
				}
				for _, c := range candidates {
					timing, err := b.Time(m, c, bandwidth)
					if err != nil {
						return err
					}
					all = append(all, timing)
					fmt.Printf("%dx%d M %-5d %-70s %8.2f us (serial %8.2f) %6.0f TFLOP/s  floor %.2f\n", n, k, m, timing.Config.String(), timing.US, timing.USSerial, timing.TFLOPS, timing.Floor)
				}
			}
			if err := b.Free(); err != nil {
				return err
			}
		}
		return nil
	}))
	if out := os.Getenv("QUANTIZE_TUNE_OUT"); out != "" {
		data, err := json.MarshalIndent(all, "", " ")
		must(t, err)
		must(t, os.WriteFile(out, data, 0o644))
	}
}

// TestProfile launches each prefill kernel once, for a profiler.
func TestProfile(t *testing.T) {
	if os.Getenv("QUANTIZE_PROFILE") == "" {
		t.Skip("QUANTIZE_PROFILE is not set")
	}
	shape := numbers(t, os.Getenv("QUANTIZE_PROFILE")) // M, index into BenchShapes
	must(t, open(t).Run(func(s *cuda.Session) error {
		for _, a := range []packer.Arithmetic{packer.Exact, packer.LUT} {
			n, k := cuda.BenchShapes[shape[1]][0], cuda.BenchShapes[shape[1]][1]
			b, err := s.NewBench(n, k, shape[0], -8, a)
			if err != nil {
				return err
			}
			if err := b.Once(shape[0]); err != nil {
				return err
			}
			if err := b.Free(); err != nil {
				return err
			}
		}
		return nil
	}))
}

func numbers(t *testing.T, list string) []int {
	t.Helper()
	var all []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		must(t, err)
		all = append(all, n)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
