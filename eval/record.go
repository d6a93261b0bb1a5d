package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"

	"quantize/internal/atomicfile"
	"quantize/tensor"
)

// A record is what the base gave on the windows of one text, little-endian:
//
//	magic                        16 bytes
//	hidden states after the final norm, FP32   windows x window x hidden (or absent)
//	nll, float64                 windows x (window-1)
//	argmax, int32                windows x (window-1)
//	seconds of the run, float64
//	sha256 of all before         32 bytes
//
// The logits themselves would take vocab/hidden times as much (85 times for
// SmolLM2-135M). The head makes the same ones of the same states, so a KL
// divergence against a record is that against the base, to the bit.
const recordMagic = "quantize base 1\n"

// recordShape is what the contents of a record depend on.
type recordShape struct{ windows, window, hidden int }

func (s recordShape) positions() int { return s.windows * (s.window - 1) }

func (s recordShape) states() int64 { return 4 * int64(s.windows) * int64(s.window) * int64(s.hidden) }

func (s recordShape) size(whole bool) int64 {
	n := int64(len(recordMagic)) + 12*int64(s.positions()) + 8 + sha256.Size
	if whole {
		n += s.states()
	}
	return n
}

// record is an open record that was found sound.
type record struct {
	f       *os.File
	shape   recordShape
	whole   bool // it has the hidden states
	nll     []float64
	top     []int32
	seconds float64
	buf     []byte
}

var errRecord = errors.New("damaged record of a base")

// openRecord reads all of the file to check it; the hidden states stay on disk.
func openRecord(path string, s recordShape) (_ *record, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &record{f: f, shape: s}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r.whole = info.Size() == s.size(true)
	if !r.whole && info.Size() != s.size(false) {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, errRecord, info.Size())
	}
	h := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(io.LimitReader(f, info.Size()-sha256.Size), h), 1<<20)
	magic := make([]byte, len(recordMagic))
	if _, err := io.ReadFull(in, magic); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.whole {
		if _, err := io.CopyN(io.Discard, in, s.states()); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	r.nll, r.top = make([]float64, s.positions()), make([]int32, s.positions())
	for _, to := range []any{r.nll, r.top, &r.seconds} {
		if err := binary.Read(in, binary.LittleEndian, to); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	sum := make([]byte, sha256.Size)
	if _, err := f.ReadAt(sum, info.Size()-sha256.Size); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if string(magic) != recordMagic || !bytes.Equal(sum, h.Sum(nil)) {
		return nil, fmt.Errorf("%s: %w: its sha256 differs", path, errRecord)
	}
	return r, nil
}

// states reads the hidden states of a window into dst (Window, Hidden).
func (r *record) states(window int, dst tensor.Matrix) error {
	n := 4 * r.shape.window * r.shape.hidden
	if r.buf == nil {
		r.buf = make([]byte, n)
	}
	if _, err := r.f.ReadAt(r.buf, int64(len(recordMagic))+int64(window)*int64(n)); err != nil {
		return err
	}
	for m := range dst.Rows {
		row := dst.Row(m)
		for j := range row {
			row[j] = math.Float32frombits(binary.LittleEndian.Uint32(r.buf[4*(m*dst.Cols+j):]))
		}
	}
	return nil
}

// close ends the reading; nothing was written, so its error says nothing.
func (r *record) close() { _ = r.f.Close() }

// recordDraft is a record under construction. The first error ends the writing
// and is told by commit.
type recordDraft struct {
	draft *atomicfile.Draft
	out   *bufio.Writer
	sum   hash.Hash
	whole bool
	err   error
	row   []byte
}

func newRecordDraft(path string, s recordShape, whole bool) (*recordDraft, error) {
	draft, err := atomicfile.NewDraft(path)
	if err != nil {
		return nil, err
	}
	d := &recordDraft{draft: draft, sum: sha256.New(), whole: whole, row: make([]byte, 4*s.hidden)}
	d.out = bufio.NewWriterSize(io.MultiWriter(draft, d.sum), 1<<20)
	_, d.err = d.out.WriteString(recordMagic)
	return d, nil
}

// add appends the hidden states of the next window.
func (d *recordDraft) add(x tensor.Matrix) {
	for m := range x.Rows {
		if d.err != nil || !d.whole {
			return
		}
		for j, v := range x.Row(m) {
			binary.LittleEndian.PutUint32(d.row[4*j:], math.Float32bits(v))
		}
		_, d.err = d.out.Write(d.row)
	}
}

// commit appends the rest and puts the record at its place.
func (d *recordDraft) commit(nll []float64, top []int32, seconds float64) error {
	for _, part := range []any{nll, top, seconds} {
		if d.err == nil {
			d.err = binary.Write(d.out, binary.LittleEndian, part)
		}
	}
	if d.err == nil {
		d.err = d.out.Flush()
	}
	if d.err == nil {
		_, d.err = d.draft.Write(d.sum.Sum(nil))
	}
	if d.err != nil {
		return errors.Join(d.err, d.draft.Abort())
	}
	return d.draft.Commit()
}

// abort removes the draft.
func (d *recordDraft) abort() { _ = d.draft.Abort() }
