//go:build cuda

package cuda

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"quantize/kernels/ref"
	"quantize/tensor"
)

// kvTiming is the speed of decoding over one cache.
type kvTiming struct {
	Layout      string  `json:"layout"`
	Batch       int     `json:"batch"`
	Tokens      int     `json:"tokens"` // of each sequence
	KVHeads     int     `json:"kv_heads"`
	Queries     int     `json:"queries"` // of a KV head
	Chunk       int     `json:"chunk"`   // records of a block
	Chosen      bool    `json:"chosen"`  // by kvChunk
	US          float64 `json:"us"`
	USDependent float64 `json:"us_dependent"` // with early starts
	TBPS        float64 `json:"tbps"`
	Ratio       float64 `json:"ratio"` // to the measured read bandwidth
}

// TestKVSpeed checks, then times, decoding at a server's and a single user's shapes;
// for the first of each layout with chunks beside the chosen one. It runs only when
// QUANTIZE_KV_SPEED is set; QUANTIZE_KV_SPEED_OUT names a file for JSON.
func TestKVSpeed(t *testing.T) {
	if os.Getenv("QUANTIZE_KV_SPEED") == "" {
		t.Skip("QUANTIZE_KV_SPEED is not set")
	}
	var all []kvTiming
	onDevice(t, func(s *Session) error {
		bandwidth, err := s.ReadBandwidth()
		if err != nil {
			return err
		}
		fmt.Printf("%s, read bandwidth %.0f GB/s\n", s.properties.Name, bandwidth/1e9)
		whole, half := KVLayout{HeadDim: 128, Group: 128}, KVLayout{HeadDim: 64, Group: 64}
		for _, c := range []struct {
			layout        KVLayout
			batch, tokens int
		}{
			{whole, 64, 4096},
			{whole, 16, 8192},
			{whole, 1, 32768},
			{half, 16, 8192},
			{KVLayout{HeadDim: 128, Group: 128, Symmetric: true}, 16, 8192},
			{KVLayout{HeadDim: 128, Group: 64}, 16, 8192},
			{KVLayout{HeadDim: 128, Group: 32}, 16, 8192},
		} {
			timings, err := s.timeKV(kvTiming{Layout: c.layout.String(), Batch: c.batch, Tokens: c.tokens, KVHeads: 8, Queries: 4}, c.layout, bandwidth)
			if err != nil {
				return err
			}
			all = append(all, timings...)
		}
		return nil
	})
	if out := os.Getenv("QUANTIZE_KV_SPEED_OUT"); out != "" {
		data, err := json.MarshalIndent(all, "", " ")
		if err := errors.Join(err, os.WriteFile(out, data, 0o644)); err != nil {
			t.Error(err)
		}
	}
}

// kvPattern are records of random tokens; a cache repeats them.
const kvPattern = 509 // no number of records of a head is a multiple

func (s *Session) timeKV(row kvTiming, l KVLayout, bandwidth float64) ([]kvTiming, error) {
	r := rand.New(rand.NewPCG(33, 1))
	d, pairs, size := l.HeadDim, row.Batch*row.KVHeads, l.RecordBytes()
	pattern := make([]byte, kvPattern*size)
	x := make([]float32, d)
	for i := range kvPattern {
		for token := range kvBlock {
			for _, values := range []bool{false, true} {
				for j := range x {
					x[j] = float32(r.NormFloat64())
				}
				l.Put(pattern[i*size:(i+1)*size], values, token, ref.EncodeCached(l.scheme(), x))
			}
		}
	}
	bytes := pairs * ceilDiv(row.Tokens, kvBlock) * size
	var caches []*KVCache
	var owned []Memory
	defer func() {
		for _, c := range caches {
			_ = c.Free(s)
		}
		for _, m := range owned {
			_ = s.Free(m)
		}
	}()
	for range max(2, ceilDiv(4*s.properties.L2Bytes, bytes)) {
		c, err := s.NewKVCache(l, row.Batch, row.KVHeads, row.Tokens)
		if err != nil {
			return nil, err
		}
		caches = append(caches, c)
		for at := 0; at < bytes; at += len(pattern) {
			n := min(len(pattern), bytes-at)
			if err := Upload(s, c.Records.slice(at, n), pattern[:n]); err != nil {
				return nil, err
			}
		}
	}
	heads := pairs * row.Queries
	q := make([]uint16, heads*d)
	for i := range q {
		q[i] = tensor.BF16Bits(float32(r.NormFloat64()))
	}
	lengths := slices.Repeat([]int32{int32(row.Tokens)}, row.Batch)
	var err error
	own := func(m Memory, e error) Memory {
		owned, err = append(owned, m), errors.Join(err, e)
		return m
	}
	in := KVQueries{
		Q: own(AllocOf(s, q)), BF16: true, Queries: row.Queries, Lengths: own(AllocOf(s, lengths)), Longest: row.Tokens,
		Scale: float32(1 / math.Sqrt(float64(d))), Out: own(s.Alloc(2 * heads * d)), OutBF16: true, LSE: own(s.Alloc(4 * heads)),
	}
	scratch, e := s.NewKVScratch(caches[0], row.Queries)
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	defer func() { _ = scratch.Free(s) }()
	in.Scratch = scratch
	if err := s.checkKVPattern(caches[0], in, pattern, q); err != nil {
		return nil, err
	}

	records := ceilDiv(row.Tokens, kvBlock)
	chosen := kvChunk(s.properties.Processors, pairs, records)
	chunks := []int{chosen}
	for _, splits := range []int{1, 2, 3, 4, 8, 16, 32, 64} {
		chunk := kvWarps * ceilDiv(ceilDiv(records, splits), kvWarps)
		if blocks := pairs * splits; chunk != chosen && blocks >= s.properties.Processors/2 && blocks <= 8*s.properties.Processors && !slices.Contains(chunks, chunk) {
			chunks = append(chunks, chunk)
		}
	}
	var all []kvTiming
	for _, chunk := range chunks {
		in.Chunk = chunk
		row.Chunk, row.Chosen = chunk, chunk == chosen
		for _, dependent := range []bool{false, true} {
			us, err := s.medianKV(caches, in, float64(bytes)/bandwidth*1e6, dependent)
			if err != nil {
				return nil, err
			}
			if dependent {
				row.USDependent = us
			} else {
				row.US = us
			}
		}
		row.TBPS = float64(bytes+4*heads*d) / row.US / 1e6
		row.Ratio = row.TBPS * 1e12 / bandwidth
		mark := ' '
		if row.Chosen {
			mark = '*'
		}
		fmt.Printf("%c %-22s B %-3d S %-6d chunk %-4d %8.2f us (dependent %8.2f)  %.3f TB/s  %.3f of reading\n", mark, row.Layout, row.Batch, row.Tokens, chunk, row.US, row.USDependent, row.TBPS, row.Ratio)
		all = append(all, row)
	}
	return all, nil
}

// checkKVPattern compares the heads of the first and the last pair with the twin.
func (s *Session) checkKVPattern(c *KVCache, in KVQueries, pattern []byte, q []uint16) error {
	d, size := c.HeadDim, c.RecordBytes()
	out, lse := make([]uint16, len(q)), make([]float32, len(q)/d)
	if err := errors.Join(s.Fill(in.Out, poison), s.DecodeKV(c, in, false), Download(s, out, in.Out), Download(s, lse, in.LSE)); err != nil {
		return err
	}
	for _, pair := range []int{0, c.Batch*c.KVHeads - 1} {
		keys, values := tensor.NewMatrix(in.Longest, d), tensor.NewMatrix(in.Longest, d)
		for token := range in.Longest {
			i := (pair*c.Capacity + token/kvBlock) % kvPattern
			record := pattern[i*size : (i+1)*size]
			c.Get(record, false, token%kvBlock).Decode(keys.Row(token))
			c.Get(record, true, token%kvBlock).Decode(values.Row(token))
		}
		for g := range in.Queries {
			row := pair*in.Queries + g
			query := make([]float32, d)
			for i := range query {
				query[i] = tensor.BF16Value(q[row*d+i])
			}
			want := make([]float64, d)
			wantLSE := ref.DecodeAttend(want, query, keys, values, nil, nil, float64(in.Scale))
			where := fmt.Sprintf("%v, B %d, S %d, pair %d, query %d", c.KVLayout, c.Batch, in.Longest, pair, g)
			if e := excess(out[row*d:(row+1)*d], want); !(e <= 1e-2) {
				return wrong(where, fmt.Sprintf("error beyond BF16 %.2e", e), "1e-2 at most")
			}
			if !(math.Abs(float64(lse[row])-wantLSE) <= 1e-3) {
				return wrong(where, fmt.Sprintf("log-sum %g", lse[row]), fmt.Sprint(wantLSE))
			}
		}
	}
	return nil
}

// medianKV is the time of one launch, in graphs that go round the caches for about a
// millisecond; floor is the shortest imaginable.
func (s *Session) medianKV(caches []*KVCache, in KVQueries, floor float64, dependent bool) (float64, error) {
	launches := ceilDiv(max(len(caches), int(1000/floor)), len(caches)) * len(caches)
	g, err := s.Capture(func() error {
		for i := range launches {
			if err := s.DecodeKV(caches[i%len(caches)], in, dependent); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = g.destroy() }()
	var times []float64
	for range 13 { // the first two warm up
		d, err := s.Time(func() error { return s.Replay(g) })
		if err != nil {
			return 0, err
		}
		times = append(times, d.Seconds()*1e6/float64(launches))
	}
	times = times[2:]
	slices.Sort(times)
	return times[len(times)/2], nil
}
