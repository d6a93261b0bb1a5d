//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"quantize/packer"
)

// Timing is the speed of one product.
type Timing struct {
	Kernel     string  `json:"kernel"`
	Arithmetic string  `json:"arithmetic"`
	M          int     `json:"m"`
	N          int     `json:"n"`
	K          int     `json:"k"`
	US         float64 `json:"us"`                  // microseconds, launched behind each other early, as in a model's graph
	USSerial   float64 `json:"us_serial,omitempty"` // without early starts
	TFLOPS     float64 `json:"tflops"`
	TBPS       float64 `json:"tbps"`  // of codes, scales, activations and outputs
	Floor      float64 `json:"floor"` // microseconds that the codes and scales take at the measured read bandwidth
	Config     Config  `json:"config"`
}

// Bench is a weight, in as many copies as keep it out of the L2 cache, and tokens,
// all random.
type Bench struct {
	n, k    int
	copies  []*Weight
	x       *Activations
	y       Memory
	session *Session
}

// NewBench prepares products with a weight (n, k) for at most maxM tokens. low is
// the smallest code: -8, or -7 for the faster expansion.
func (s *Session) NewBench(n, k, maxM, low int, a packer.Arithmetic) (*Bench, error) {
	r := rand.New(rand.NewPCG(10, uint64(n+k)))
	w := weightOf(r, n, k, 128, low, logNormal(r))
	b := &Bench{n: n, k: k, session: s}
	for range max(2, ceilDiv(4*s.properties.L2Bytes, n*k/2)) {
		d, err := s.PackOnDevice(w, a, nil)
		if err != nil {
			return nil, err
		}
		b.copies = append(b.copies, d)
	}
	var err error
	b.y, err = s.Alloc(2 * maxM * n)
	return b, err
}

// Free gives the memory back.
func (b *Bench) Free() error {
	err := b.session.Free(b.y)
	for _, w := range b.copies {
		err = errors.Join(err, w.Free(b.session))
	}
	if b.x != nil {
		err = errors.Join(err, b.x.Free(b.session))
	}
	return err
}

// tokens makes m random tokens, unless the last ones were as many.
func (b *Bench) tokens(m int) (*Activations, error) {
	s := b.session
	if b.x != nil && b.x.M == m {
		return b.x, nil
	}
	if b.x != nil {
		if err := b.x.Free(s); err != nil {
			return nil, err
		}
	}
	var err error
	if b.x, err = s.NewActivations(m, b.k); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(11, uint64(m)))
	normals := make([]float32, 1<<20)
	for i := range normals {
		normals[i] = float32(r.NormFloat64())
	}
	at := 0
	return b.x, s.fillActivations(b.x, r, func(*rand.Rand) float32 {
		at = (at + 1) % (len(normals) - 1) // a period that no K divides
		return normals[at]
	})
}

// Time measures the product of m tokens with kernel c: the median over graphs
// that hold enough launches to last well beyond a launch's own time. bandwidth is
// of [Session.ReadBandwidth].
func (b *Bench) Time(m int, c Config, bandwidth float64) (*Timing, error) {
	x, err := b.tokens(m)
	if err != nil {
		return nil, err
	}
	bytes := float64(b.n*b.k)/2 + float64(b.n*b.k)/128
	t := &Timing{
		Kernel: c.kernel(b.copies[0].Codes.String(), 128), Arithmetic: "exact", M: m, N: b.n, K: b.k, Config: c, Floor: bytes / bandwidth * 1e6,
	}
	if b.copies[0].Codes == Products {
		t.Arithmetic = "lut"
	}
	if t.US, err = b.median(x, c, true); err != nil {
		return nil, err
	}
	if m <= serialTokens {
		if t.USSerial, err = b.median(x, c, false); err != nil {
			return nil, err
		}
	}
	t.TFLOPS = 2 * float64(m) * float64(b.n) * float64(b.k) / t.US / 1e6
	t.TBPS = (bytes + float64(m*b.k) + 2*float64(m*b.n)) / t.US / 1e6
	return t, nil
}

const (
	// serialTokens is the largest M for which launches matter.
	serialTokens = 64
	// warmSeconds of work come before products of more than longFLOP operations are timed.
	longFLOP    = 1e11
	warmSeconds = 0.1
)

func (b *Bench) median(x *Activations, c Config, dependent bool) (float64, error) {
	s := b.session
	flop := 2 * float64(x.M) * float64(b.n) * float64(b.k)
	launches := max(len(b.copies), min(64, int(math.Ceil(400e-6/(flop/1e15+4e-6)))))
	launches = ceilDiv(launches, len(b.copies)) * len(b.copies)
	g, err := s.Capture(func() error {
		for i := range launches {
			if err := s.Multiply(b.y, b.copies[i%len(b.copies)], x, c, dependent); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = g.destroy() }()
	// Long enough that a large product meets the card's power limit, as it does in use.
	warm := 2
	if flop > longFLOP {
		warm = int(math.Ceil(warmSeconds / (float64(launches) * flop / 1e15)))
	}
	for range warm {
		if err := s.Replay(g); err != nil {
			return 0, err
		}
	}
	var times []float64
	for range 11 {
		d, err := s.Time(func() error { return s.Replay(g) })
		if err != nil {
			return 0, err
		}
		times = append(times, d.Seconds()*1e6/float64(launches))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// Candidates lists the kernels worth timing at m tokens: decode tiles that hold
// them all, or from 65 tokens on some of at least 32, with blocks for most
// multiprocessors but not many waves; prefill tiles from 65 tokens on.
func (b *Bench) Candidates(m int) []Config {
	smallest := 8
	for smallest < m {
		smallest *= 2
	}
	if m > 64 {
		smallest = 32
	}
	s := b.session
	codes, processors := b.copies[0].Codes.String(), s.properties.Processors
	var all []Config
	for _, c := range s.configs(codes, 128, b.k) {
		if !c.Decode() {
			if m > 64 && (m <= 1024 || c.Tokens > 128 || codes != Products.String()) {
				all = append(all, c)
			}
			continue
		}
		blocks := ceilDiv(b.n, 64*c.Wide) * ceilDiv(m, c.Tokens) * c.Split
		if c.Tokens < smallest || m <= 64 && c.Tokens > smallest || m > 1024 || blocks < processors*2/5 || blocks > processors*5/2 && c.Split > 1 {
			continue
		}
		k, _ := s.manifest.gemm(c.kernel(codes, 128))
		c.Alone = blocks <= processors && k.SharedBytes < aloneBytes
		all = append(all, c)
	}
	return all
}

// readArgument is struct Read of probe.cu.
type readArgument struct {
	Data, Sink uint64
	Count      int64
}

// ReadBandwidth measures bytes a second of a kernel that reads 2 GB once.
func (s *Session) ReadBandwidth() (float64, error) {
	const bytes = 2 << 30
	m, err := s.Alloc(bytes)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Free(m) }()
	sink, err := s.Alloc(4)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Free(sink) }()
	if err := s.Fill(m, 0x5B); err != nil {
		return 0, err
	}
	best := 0.0
	for _, blocks := range []int{2, 4} {
		for range 5 {
			d, err := s.Time(func() error {
				return launch(s, "probe_read", Launch{Grid: Dim{X: blocks * s.properties.Processors}, Threads: 512},
					&readArgument{Data: m.Address, Sink: sink.Address, Count: bytes / 16}, "reading 2 GB")
			})
			if err != nil {
				return 0, err
			}
			best = max(best, bytes/d.Seconds())
		}
	}
	return best, nil
}

// rateArgument is struct Rate of probe.cu.
type rateArgument struct {
	Data, Clocks, Sink uint64
	Rounds             int32
}

// TensorRate measures the tensor cores with operands as the kernels have them: a
// weight fragment in registers, n tokens a wgmma, `groups` warpgroups a block.
// It returns cycles a wgmma and the whole card's operations a second.
func (s *Session) TensorRate(n, groups int, small bool) (cycles, flops float64, err error) {
	r := rand.New(rand.NewPCG(12, 1))
	data := make([]uint8, 18<<10)
	for i := range data {
		data[i] = uint8(r.IntN(256)) &^ 0x40 // finite, of magnitudes about 1
		if small && i >= 16<<10 {
			data[i] = uint8(r.IntN(8) | r.IntN(2)<<7)
		}
	}
	m, err := AllocOf(s, data)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = s.Free(m) }()
	blocks := s.properties.Processors
	clocks, err := s.Alloc(8*blocks + 4)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = s.Free(clocks) }()
	const rounds = 40000
	argument := &rateArgument{Data: m.Address, Clocks: clocks.Address, Sink: clocks.Address + uint64(8*blocks), Rounds: rounds}
	name := fmt.Sprintf("probe_rate_n%d", n)
	d, err := s.Time(func() error {
		return launch(s, name, Launch{Grid: Dim{X: blocks}, Threads: 128 * groups}, argument, "tensor rate")
	})
	if err != nil {
		return 0, 0, err
	}
	counts := make([]int64, blocks)
	if err := Download(s, counts, clocks); err != nil {
		return 0, 0, err
	}
	wgmmas := float64(rounds * 8 * groups)
	return float64(counts[0]) / wgmmas, 2 * 64 * 32 * float64(n) * wgmmas * float64(blocks) / d.Seconds(), nil
}

// Once launches each candidate once.
func (b *Bench) Once(m int) error {
	x, err := b.tokens(m)
	if err != nil {
		return err
	}
	for _, c := range b.Candidates(m) {
		if err := errors.Join(b.session.Multiply(b.y, b.copies[0], x, c, false), b.session.Wait(c.String())); err != nil {
			return err
		}
	}
	return nil
}
