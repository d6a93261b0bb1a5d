package cuda

import (
	_ "embed" // the table
	"encoding/json"
	"fmt"
	"io"

	"quantize/packer"
)

// Config names the kernel that computes a product, and how it is launched.
type Config struct {
	Tokens int `json:"tokens"` // TM: tokens of a tile
	// Wide and Deep are the warpgroups of a decode block along the channels and
	// along K; 0 for the prefill kernel.
	Wide int `json:"wide,omitempty"`
	Deep int `json:"deep,omitempty"`
	// Split is the number of decode blocks that divide K among them: a power of two, at
	// most 8 and half the tokens of a tile.
	Split int `json:"split,omitempty"`
	// Alone keeps a decode block from sharing a multiprocessor: where blocks are few,
	// those of the next launch would crowd on some of them.
	Alone   bool `json:"alone,omitempty"`
	Cluster int  `json:"cluster,omitempty"` // prefill blocks that share their tokens
}

// Decode says which family the kernel is of.
func (c Config) Decode() bool { return c.Wide > 0 }

// kernel is the name of the instance for those codes ("signed8", "table") and group size.
func (c Config) kernel(codes string, group int) string {
	if c.Decode() {
		return fmt.Sprintf("decode_m%d_w%dx%d_%s_g%d", c.Tokens, c.Wide, c.Deep, codes, group)
	}
	return fmt.Sprintf("prefill_m%d_c%d_%s_g%d", c.Tokens, c.Cluster, codes, group)
}

// String is the configuration as the table prints it.
func (c Config) String() string {
	if c.Decode() {
		text := fmt.Sprintf("decode %d channels x %d tokens, %d x %d warpgroups, K in %d", 64*c.Wide, c.Tokens, c.Wide, c.Deep, c.Split)
		if c.Alone {
			text += ", alone"
		}
		return text
	}
	return fmt.Sprintf("prefill %d channels x %d tokens, cluster of %d", 128, c.Tokens, c.Cluster)
}

// Rule is a line of the dispatch table: products in that arithmetic ("exact",
// "lut") with at most M tokens, N channels and K columns (0 for any).
type Rule struct {
	Arithmetic string `json:"arithmetic"`
	M          int    `json:"m,omitempty"`
	N          int    `json:"n,omitempty"`
	K          int    `json:"k,omitempty"`
	Config
}

// BenchShapes are the (N, K) of the linears of Llama-3-8B: q, k, v; o; gate, up; down.
var BenchShapes = [][2]int{{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}}

// BenchTokens are the M at which they are timed.
var BenchTokens = []int{1, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096, 8192}

//go:embed dispatch.json
var dispatchJSON []byte

var table = parseTable(dispatchJSON)

func parseTable(data []byte) []Rule {
	var rules []Rule
	if err := json.Unmarshal(data, &rules); err != nil {
		panic("cuda: the dispatch table does not parse")
	}
	return rules
}

// Table returns the dispatch table. The first rule that fits is taken; the last of
// each arithmetic fits everything.
func Table() []Rule { return table }

// Dispatch chooses the kernel for a product of m tokens, n channels, k columns
// with a weight packed for arithmetic a, packer.Exact or packer.LUT.
func Dispatch(m, n, k int, a packer.Arithmetic) Config {
	arithmetic := "exact"
	if a == packer.LUT {
		arithmetic = "lut"
	}
	for _, r := range table {
		if r.Arithmetic == arithmetic && fits(m, r.M) && fits(n, r.N) && fits(k, r.K) {
			c := r.Config
			for c.Split > max(1, ceilDiv(k, slab)) {
				c.Split /= 2
			}
			return c
		}
	}
	panic("cuda: the dispatch table has no last rule")
}

func fits(v, limit int) bool { return limit == 0 || v <= limit }

// PrintTable writes the dispatch table.
func PrintTable(w io.Writer) {
	limit := func(v int) string {
		if v == 0 {
			return "any"
		}
		return fmt.Sprintf("<= %d", v)
	}
	fmt.Fprintf(w, "%-10s %-9s %-9s %-9s kernel\n", "arithmetic", "M", "N", "K")
	for _, r := range table {
		fmt.Fprintf(w, "%-10s %-9s %-9s %-9s %s\n", r.Arithmetic, limit(r.M), limit(r.N), limit(r.K), r.Config)
	}
}
