package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"quantize/kernels/cpu"
	"quantize/kernels/cuda"
)

// errKernels is a kernel that does not do what it should; the faults were printed.
var errKernels = fmt.Errorf("kernels do not verify: %w", cuda.ErrDevice)

func newKernelsCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "kernels",
		Short: "The bundled kernels: list, verify, time",
		Long: `List the kernels that this program holds, check the GPU kernels on this
machine's card, or time them. verify and bench need a build with the GPU backend.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newKernelsListCommand(e), newKernelsVerifyCommand(e), newKernelsBenchCommand(e))
	for _, sub := range c.Commands() {
		sub.Long += exitStatus
	}
	return c
}

// kernelList is the result of kernels list.
type kernelList struct {
	CPU      []string      `json:"cpu"` // instruction sets with kernels that this processor has
	CUDA     bool          `json:"cuda"`
	Toolkit  string        `json:"toolkit"` // of the cubins
	Kernels  []cuda.Kernel `json:"kernels"`
	Dispatch []cuda.Rule   `json:"dispatch"`
}

func newKernelsListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the kernels and what chooses among them",
		Long: `List the kernels of this program: the CPU's instruction sets, the GPU kernels
with their registers and tiles, and the table that chooses a GPU kernel by the
tokens M, output features N and input features K of a product.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			m := cuda.BuiltKernels()
			l := &kernelList{CUDA: gpuBuild, Toolkit: m.Toolkit, Dispatch: cuda.Table()}
			for _, i := range cpu.Available() {
				l.CPU = append(l.CPU, i.String())
			}
			for _, c := range m.Cubins {
				l.Kernels = append(l.Kernels, c.Kernels...)
			}
			return e.print(l, l.text)
		},
	}
}

func (l *kernelList) text(w io.Writer) {
	for _, i := range l.CPU {
		fmt.Fprintf(w, "cpu   %s\n", i)
	}
	state := "not in this build (make build-cuda)"
	if l.CUDA {
		state = "in this build"
	}
	fmt.Fprintf(w, "cuda  sm_90a, CUDA %s, %s\n\n", l.Toolkit, state)
	fmt.Fprintf(w, "%-36s %9s %7s %12s %7s %9s\n", "kernel", "registers", "threads", "shared bytes", "tokens", "channels")
	for _, k := range l.Kernels {
		fmt.Fprintf(w, "%-36s %9d %7s %12s %7s %9s\n", k.Name, k.Registers, orDash(k.Threads), orDash(k.SharedBytes), orDash(k.Tokens), orDash(k.Channels))
	}
	fmt.Fprintln(w)
	cuda.PrintTable(w)
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// kernelChecks is the result of kernels verify.
type kernelChecks struct {
	OK     bool          `json:"ok"`
	Device string        `json:"device"`
	Checks []kernelCheck `json:"checks"`
}

type kernelCheck struct {
	Item   string `json:"item"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// cardFlag is --device of commands that want a card: it has one value, so that a script
// which names the device everywhere may name it here.
func cardFlag(c *cobra.Command) (check func() error) {
	name := c.Flags().String("device", "cuda", "cuda, the one there is")
	return func() error {
		if *name != "cuda" {
			return &usageError{fmt.Errorf("--device: found %q, wanted cuda (tests of the CPU's kernels: go test ./kernels/...)", *name)}
		}
		return nil
	}
}

func newKernelsVerifyCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [OUT]",
		Short: "Check the GPU kernels on this machine's card",
		Long: `Check on this machine's card that the hardware does what the kernels rest on,
that packing and rounding give the bytes of their plain twins, that products of
integers are exact and others within their bounds of float64, and that every
launch gives the same bits. With OUT, a quantized checkpoint, also that its INT4
weights multiply as their stored codes say, in both arithmetics.`,
		Args: atMostOneArg("OUT, a quantized checkpoint"),
	}
	check := cardFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return err
		}
		v, err := verifyGPU(c.Context(), strings.Join(args, ""))
		if err != nil {
			return err
		}
		if err := e.print(v, v.text); err != nil {
			return err
		}
		if !v.OK {
			return errKernels
		}
		return nil
	}
	return c
}

func (v *kernelChecks) text(w io.Writer) {
	fmt.Fprintln(w, v.Device)
	for _, c := range v.Checks {
		word := "PASS"
		if !c.OK {
			word = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s  %s\n", word, c.Item, c.Detail)
	}
}

// kernelTiming is an element of the result of kernels bench.
type kernelTiming struct {
	Kernel    string             `json:"kernel"`
	M         int                `json:"m"`
	N         int                `json:"n"`
	K         int                `json:"k"`
	US        float64            `json:"us"`
	TFLOPS    float64            `json:"tflops"`
	TBPS      float64            `json:"tbps"`
	Baselines map[string]float64 `json:"baselines"` // microseconds
	Device    string             `json:"device"`
}

func newKernelsBenchCommand(e *env) *cobra.Command {
	var tokens []int
	var check func() error
	c := &cobra.Command{
		Use:   "bench",
		Short: "Time the GPU kernels on this machine's card",
		Long: `Time INT4 x FP8 products of the sizes of an 8B model: the median over CUDA
graphs, weights rotated so that they come from memory, random data. Baselines are
the time that reading the weight takes at the card's measured bandwidth (read)
and the same launches without early starts (serial); kernels/cuda/device.sh times
cuBLAS and vLLM in the same run.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := check(); err != nil {
				return err
			}
			for _, m := range tokens {
				if m < 1 {
					return &usageError{errors.New("--tokens: found a number below 1")}
				}
			}
			all, err := benchGPU(c.Context(), tokens)
			if err != nil {
				return err
			}
			return e.print(all, func(w io.Writer) {
				fmt.Fprintf(w, "%6s %6s %6s %10s %9s %7s %10s  kernel\n", "M", "N", "K", "us", "TFLOP/s", "TB/s", "us / read")
				for _, t := range all {
					fmt.Fprintf(w, "%6d %6d %6d %10.2f %9.0f %7.2f %10.2f  %s\n", t.M, t.N, t.K, t.US, t.TFLOPS, t.TBPS, t.US/t.Baselines["read"], t.Kernel)
				}
			})
		},
	}
	check = cardFlag(c)
	c.Flags().IntSliceVar(&tokens, "tokens", cuda.BenchTokens, "numbers of tokens (M)")
	return c
}
