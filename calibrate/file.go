package calibrate

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"

	"quantize/internal/atomicfile"
	"quantize/internal/fault"
)

// Save writes s to a file, which appears whole or not at all. It is a
// safetensors file that other tools can read:
//
//	layers.L.POINT.absmax   F32 [K]       .sum .sum_abs .sum_sq   F64 [K]
//	layers.L.POINT.pair_max F32 [pairs]   of queries and keys
//	layers.L.POINT.hessian  F64 [K, K]    where one was kept
//
// with the counts as JSON, and the SHA-256 of that and the data, in __metadata__. The
// same statistics give the same bytes. Memory: the file once more.
func (s *Stats) Save(path string) error {
	index := indexOf(s)
	var data bytes.Buffer
	data.Grow(int(index.bytes()))
	for i := range s.Sites {
		for _, part := range s.Sites[i].parts() {
			part.encode(&data)
		}
	}
	hash, err := index.hash()
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	hash.Write(data.Bytes())
	head, err := index.header(hex.EncodeToString(hash.Sum(nil)))
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := atomicfile.Write(path, append(head, data.Bytes()...)); err != nil {
		return fmt.Errorf("save statistics: %w", err)
	}
	return nil
}

// Load reads a file of [Stats.Save]; the result is equal to the bit. A file
// that is not one, is cut short or was changed is ErrInvalid. Nothing is
// allocated before the sizes in the header add up to the file's.
func Load(path string) (*Stats, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: path, Found: err.Error(), Wanted: "a statistics file"}
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("load statistics: %w", err)
	}
	s, err := read(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

const (
	maxHeader   = 100_000_000 // safetensors' own limit
	maxChannels = 1 << 18
)

// read parses a statistics file of the given size.
func read(r io.Reader, size int64) (*Stats, error) {
	var length [8]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, corrupt(fmt.Sprintf("%d bytes", size), "a header")
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeader || int64(n) > size-8 {
		return nil, corrupt(fmt.Sprintf("a header of %d bytes in a file of %d", n, size), "a header inside the file, at most 100 MB")
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	index, sum, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	if want := 8 + int64(n) + index.bytes(); size != want {
		return nil, corrupt(fmt.Sprintf("%d bytes", size), fmt.Sprintf("%d", want))
	}
	if again, err := index.header(sum); err != nil || !bytes.Equal(again[8:], head) {
		return nil, corrupt("a header that does not list what its metadata describe", "the header of a statistics file")
	}
	hash, err := index.hash()
	if err != nil {
		return nil, err
	}
	s := index.empty()
	buffer := make([]byte, 1<<16)
	for i := range s.Sites {
		for _, part := range s.Sites[i].parts() {
			if err := part.decode(io.TeeReader(r, hash), buffer); err != nil {
				return nil, fmt.Errorf("read data: %w", err)
			}
		}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return nil, corrupt("contents with SHA-256 "+got, sum)
	}
	for i := range s.Sites {
		if err := s.Sites[i].check(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func corrupt(found, wanted string) error {
	return &fault.Error{Err: ErrInvalid, Found: found, Wanted: wanted, Hint: "the file is damaged or is none of ours; run quantize calibrate again"}
}

// part is one tensor of a site: either f32 or f64.
type part struct {
	name  string
	shape []int
	f32   []float32
	f64   []float64
}

// parts lists the tensors of a site in the order of the file.
func (s *SiteStats) parts() []part {
	k := []int{s.Channels()}
	parts := []part{
		{name: "absmax", shape: k, f32: s.AbsMax},
		{name: "sum", shape: k, f64: s.Sum},
		{name: "sum_abs", shape: k, f64: s.SumAbs},
		{name: "sum_sq", shape: k, f64: s.SumSq},
	}
	if s.PairMax != nil {
		parts = append(parts, part{name: "pair_max", shape: []int{len(s.PairMax)}, f32: s.PairMax})
	}
	if h := s.Hessian; h != nil {
		parts = append(parts, part{name: "hessian", shape: []int{h.K, h.K}, f64: h.Data})
	}
	return parts
}

func (p part) encode(to *bytes.Buffer) {
	for _, v := range p.f32 {
		to.Write(binary.LittleEndian.AppendUint32(to.AvailableBuffer(), math.Float32bits(v)))
	}
	for _, v := range p.f64 {
		to.Write(binary.LittleEndian.AppendUint64(to.AvailableBuffer(), math.Float64bits(v)))
	}
}

func (p part) decode(r io.Reader, buffer []byte) error {
	for from := 0; from < len(p.f32); {
		n := min(len(p.f32)-from, len(buffer)/4)
		if _, err := io.ReadFull(r, buffer[:4*n]); err != nil {
			return err
		}
		for i := range n {
			p.f32[from+i] = math.Float32frombits(binary.LittleEndian.Uint32(buffer[4*i:]))
		}
		from += n
	}
	for from := 0; from < len(p.f64); {
		n := min(len(p.f64)-from, len(buffer)/8)
		if _, err := io.ReadFull(r, buffer[:8*n]); err != nil {
			return err
		}
		for i := range n {
			p.f64[from+i] = math.Float64frombits(binary.LittleEndian.Uint64(buffer[8*i:]))
		}
		from += n
	}
	return nil
}

// compactJSON marshals without HTML escapes and without a newline.
func compactJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
