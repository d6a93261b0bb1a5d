package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"quantize/internal/atomicfile"
	"quantize/internal/fault"
)

// disk is where the output goes. Tests replace it to have a full disk.
var disk = atomicfile.OS

// WriterOptions tunes a [Writer]; the zero value is useful.
type WriterOptions struct {
	ShardBytes int64             // data bytes of a shard, 0 for 2 GiB; a larger tensor has a shard of its own
	Metadata   map[string]string // __metadata__ of each shard; "format": "pt" is always added
}

// Writer makes a checkpoint directory. Nothing is seen at the output's path
// before Commit. Add, Copy and File are safe for concurrent use; after a write
// has failed, every call fails with the same error and only Abort is left.
type Writer struct {
	stage  *atomicfile.Stage
	shards []planned
	places map[string]place

	staging sync.Mutex // held while files other than weights are made

	mu     sync.Mutex
	files  []atomicfile.File // beside shards, open until Commit or Abort
	state  map[string]string // "" while being written, then the sha256
	others map[string]bool   // files by relative path
	index  bool              // the index is written
	err    error             // the first failed write
	closed bool
}

// place says where a tensor goes.
type place struct {
	placed
	shard int
}

// Create plans the shards for exactly these tensors, makes a temporary
// directory beside out, reserves the whole space and writes the headers. out
// must not exist or be an empty directory. The caller calls Abort in the end,
// whatever happened.
func Create(out string, tensors []Info, o WriterOptions) (*Writer, error) {
	if o.ShardBytes < 0 {
		return nil, &fault.Error{Err: ErrInvalid, Where: "shard size", Found: fmt.Sprint(o.ShardBytes), Wanted: "a positive number of bytes"}
	}
	if o.ShardBytes == 0 {
		o.ShardBytes = defaultShard
	}
	metadata := maps.Clone(o.Metadata)
	if metadata == nil {
		metadata = make(map[string]string)
	}
	metadata["format"] = "pt"
	shards, err := plan(tensors, o.ShardBytes, metadata)
	if err != nil {
		return nil, err
	}
	stage, err := disk.NewStage(out)
	if err != nil {
		return nil, outputFault(out, err)
	}
	w := &Writer{stage: stage, shards: shards, places: make(map[string]place), state: make(map[string]string), others: make(map[string]bool)}
	for i := range shards {
		if err := w.start(i); err != nil {
			return nil, errors.Join(outputFault(filepath.Join(out, shards[i].file), err), w.Abort())
		}
	}
	return w, nil
}

// start makes shard i with its header and full size.
func (w *Writer) start(i int) error {
	s := &w.shards[i]
	f, err := w.stage.Create(s.file)
	if err != nil {
		return err
	}
	w.files = append(w.files, f)
	if err := w.stage.Reserve(f, s.size); err != nil {
		return err
	}
	if _, err := f.WriteAt(s.head, 0); err != nil {
		return err
	}
	for _, t := range s.tensors {
		w.places[t.Name] = place{t, i}
	}
	s.head = nil
	return nil
}

// Add writes the bytes of a tensor, all of them, once. The data are not kept.
func (w *Writer) Add(name string, data []byte) error {
	p, err := w.claim(name)
	if err != nil {
		return err
	}
	if int64(len(data)) != p.Bytes() {
		w.unclaim(name)
		return wrongLength(p, fmt.Sprintf("%d bytes", len(data)))
	}
	if _, err := w.files[p.shard].WriteAt(data, p.offset); err != nil {
		return w.fail(w.shards[p.shard].file, err)
	}
	sum := sha256.Sum256(data)
	w.finish(name, sum[:])
	return nil
}

// Copy writes a tensor of r unchanged, in small pieces. Its dtype and shape
// must be those that [Create] was told.
func (w *Writer) Copy(r *Reader, name string) error { return w.copy(r, name, false) }

// CopyFinite is [Writer.Copy] of floats among which NaN and infinity are an error,
// as in [Reader.Matrix].
func (w *Writer) CopyFinite(r *Reader, name string) error { return w.copy(r, name, true) }

func (w *Writer) copy(r *Reader, name string, mustBeFinite bool) error {
	l, err := r.find(name)
	if err != nil {
		return err
	}
	var values *finite
	if mustBeFinite {
		if values, err = newFinite(l.Info, tensorIn(name, r.File(name))); err != nil {
			return err
		}
	}
	p, err := w.claim(name)
	if err != nil {
		return err
	}
	if l.DType != p.DType || !slices.Equal(l.Shape, p.Shape) {
		w.unclaim(name)
		return &fault.Error{
			Err: ErrInvalid, Where: tensorIn(name, r.File(name)), Found: fmt.Sprintf("%v %v", l.DType, l.Shape),
			Wanted: fmt.Sprintf("%v %v", p.DType, p.Shape),
		}
	}
	sum := sha256.New()
	buf := make([]byte, min(chunk, int(l.Bytes())))
	for at := int64(0); at < l.Bytes(); at += chunk {
		part := buf[:min(chunk, l.Bytes()-at)]
		if err := r.readAt(l, part, at); err != nil {
			w.unclaim(name)
			return err
		}
		if values != nil {
			if err := values.piece(part, at); err != nil {
				w.unclaim(name)
				return err
			}
		}
		if _, err := w.files[p.shard].WriteAt(part, p.offset+at); err != nil {
			return w.fail(w.shards[p.shard].file, err)
		}
		sum.Write(part)
	}
	w.finish(name, sum.Sum(nil))
	return nil
}

// AddFrom writes a tensor whose bytes data gives, in small pieces: exactly as
// many as its shape has.
func (w *Writer) AddFrom(name string, data io.Reader) error {
	p, err := w.claim(name)
	if err != nil {
		return err
	}
	sum := sha256.New()
	buf := make([]byte, min(chunk, p.Bytes()))
	for at := int64(0); at < p.Bytes(); at += chunk {
		part := buf[:min(chunk, p.Bytes()-at)]
		if n, err := io.ReadFull(data, part); err != nil {
			w.unclaim(name)
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				return wrongLength(p, fmt.Sprintf("%d bytes", at+int64(n)))
			}
			return err
		}
		if _, err := w.files[p.shard].WriteAt(part, p.offset+at); err != nil {
			return w.fail(w.shards[p.shard].file, err)
		}
		sum.Write(part)
	}
	if n, err := data.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		w.unclaim(name)
		return wrongLength(p, "more bytes")
	}
	w.finish(name, sum.Sum(nil))
	return nil
}

func wrongLength(p place, found string) error {
	return &fault.Error{
		Err: ErrInvalid, Where: "tensor " + quote(p.Name), Found: found,
		Wanted: fmt.Sprintf("%d for %v %v", p.Bytes(), p.DType, p.Shape),
	}
}

// claim reserves the place of a tensor for the caller.
func (w *Writer) claim(name string) (place, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return place{}, err
	}
	p, ok := w.places[name]
	if !ok {
		return p, &fault.Error{Err: ErrInvalid, Where: "tensor " + quote(name), Found: "a name that the header lacks", Wanted: "one that the output was planned with"}
	}
	if _, twice := w.state[name]; twice {
		return p, &fault.Error{Err: ErrInvalid, Where: "tensor " + quote(name), Found: "the tensor twice", Wanted: "each tensor once"}
	}
	w.state[name] = ""
	return p, nil
}

func (w *Writer) unclaim(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.state, name)
}

func (w *Writer) finish(name string, sum []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state[name] = hex.EncodeToString(sum)
}

// fail keeps the first failed write and describes this one.
func (w *Writer) fail(rel string, err error) error {
	if described := (*fault.Error)(nil); !errors.As(err, &described) {
		err = outputFault(filepath.Join(w.stage.Out(), filepath.FromSlash(rel)), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return err
}

func (w *Writer) usable() error {
	if w.err == nil && w.closed {
		return outputFault(w.stage.Out(), fs.ErrClosed)
	}
	return w.err
}

// Hashes gives the sha256, in hex, of the bytes of every tensor written so far.
func (w *Writer) Hashes() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sums := maps.Clone(w.state)
	maps.DeleteFunc(sums, func(_, sum string) bool { return sum == "" })
	return sums
}

// Commit demands that every tensor is written, adds the index, makes all
// durable and moves the directory to its path. When tensors are missing they
// can still be added and Commit called again.
func (w *Writer) Commit() error {
	if err := w.complete(); err != nil {
		return err
	}
	for i, f := range w.files {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return w.fail(w.shards[i].file, err)
		}
	}
	w.staging.Lock()
	defer w.staging.Unlock()
	if err := w.stage.Commit(); err != nil {
		return w.fail("", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

// complete demands that every tensor is written, and adds the index once.
func (w *Writer) complete() error {
	w.mu.Lock()
	err, missing, indexed := w.usable(), w.missing(), w.index
	w.mu.Unlock()
	if err != nil || indexed {
		return err
	}
	if len(missing) > 0 {
		return &fault.Error{
			Err: ErrInvalid, Where: w.stage.Out(), Found: fmt.Sprintf("%d of %d tensors not written: %s", len(missing), len(w.places), few(missing)),
			Wanted: "all of them",
		}
	}
	if err := w.writeFile(indexFile, bytes.NewReader(indexJSON(w.shards))); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index = true
	return nil
}

// Written opens what is written so far, to be measured before it is committed: every
// tensor, and config.json, must be. The caller closes it before Commit or Abort.
func (w *Writer) Written() (*Reader, error) {
	if err := w.complete(); err != nil {
		return nil, err
	}
	return Open(w.stage.Dir())
}

func (w *Writer) missing() []string {
	var names []string
	for name := range w.places {
		if w.state[name] == "" {
			names = append(names, quote(name))
		}
	}
	slices.Sort(names)
	return names
}

// few lists the first names.
func few(names []string) string {
	const limit = 5
	if len(names) > limit {
		return strings.Join(names[:limit], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}
