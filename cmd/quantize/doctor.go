package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quantize/kernels/cpu"
	"quantize/tensor"
)

// diagnosis is the result of doctor.
type diagnosis struct {
	Version   string   `json:"version"`
	Platform  string   `json:"platform"`
	Processor string   `json:"processor"`
	Cores     int      `json:"cores"`
	Memory    int64    `json:"memory_bytes"`
	ISA       string   `json:"isa"`
	Available []string `json:"available_isas"`
	GFLOPS    float64  `json:"gemm_gflops"` // FP32, 1024 x 1024 x 1024
	CUDA      string   `json:"cuda"`
}

func newDoctorCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do",
		Long: `Say what this machine can do: processor, memory, the instruction set in use
(QUANTIZE_CPU forces one), and the speed of the FP32 matrix product.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			isa, err := cpu.FromEnv()
			if err != nil {
				return err
			}
			d := &diagnosis{
				Version: version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Processor: procField("/proc/cpuinfo", "model name"),
				Cores: runtime.NumCPU(), Memory: memory(), ISA: isa.String(), GFLOPS: gemmSpeed(cpu.NewISA(isa, 0)),
				CUDA: describeGPU(),
			}
			for _, i := range cpu.Available() {
				d.Available = append(d.Available, i.String())
			}
			return e.print(d, d.text)
		},
	}
}

func (d *diagnosis) text(w io.Writer) {
	fmt.Fprintf(w, "quantize   %s, %s\n", d.Version, d.Platform)
	fmt.Fprintf(w, "processor  %s, %d cores\n", d.Processor, d.Cores)
	fmt.Fprintf(w, "memory     %s\n", size(d.Memory))
	fmt.Fprintf(w, "kernels    %s (available: %s)\n", d.ISA, strings.Join(d.Available, ", "))
	fmt.Fprintf(w, "GEMM       %.0f GFLOP/s, FP32, 1024^3\n", d.GFLOPS)
	fmt.Fprintf(w, "CUDA       %s\n", d.CUDA)
}

// gemmSpeed times the 1024^3 product for about half a second and takes the best.
func gemmSpeed(c *cpu.Compute) float64 {
	const n = 1024
	a, b, dst := tensor.NewMatrix(n, n), tensor.NewMatrix(n, n), tensor.NewMatrix(n, n)
	for i := range a.Data {
		a.Data[i], b.Data[i] = float32(i%13)-6, float32(i%7)-3
	}
	best := time.Duration(1<<63 - 1)
	for begin := time.Now(); time.Since(begin) < 500*time.Millisecond; {
		start := time.Now()
		c.MatMulT(dst, a, b)
		best = min(best, time.Since(start))
	}
	return 2 * n * n * n / best.Seconds() / 1e9
}

func procField(file, key string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memory() int64 {
	kb, _, _ := strings.Cut(procField("/proc/meminfo", "MemTotal"), " ")
	n, err := strconv.ParseInt(kb, 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
