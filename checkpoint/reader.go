package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"quantize/internal/fault"
)

// Reader reads one checkpoint directory. It holds the headers; weights stay in
// their files until asked for. It is safe for concurrent use.
type Reader struct {
	dir    string
	root   *directory
	config []byte
	shards []*shard // sorted by file name
	where  map[string]location
	names  []string
	other  []string
	opened map[string]fs.FileInfo // of what is no shard, as it was then
}

type shard struct {
	Shard
	f      *os.File
	opened fs.FileInfo // as it was then
}

// Shard is one safetensors file of a checkpoint.
type Shard struct {
	File     string            // name in the directory
	Bytes    int64             // size, header included
	Metadata map[string]string // __metadata__ of its header, nil when there is none
}

type location struct {
	placed
	shard *shard
}

// Open reads config.json, the index and every header of the checkpoint in dir,
// and checks them against each other. The caller closes the reader.
func Open(dir string) (_ *Reader, err error) {
	root, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{dir: dir, root: root, where: make(map[string]location), opened: make(map[string]fs.FileInfo)}
	defer func() {
		if err != nil {
			_ = r.Close() // the first error says more
		}
	}()
	r.remember(configFile, indexFile)
	if r.config, err = root.readFile(configFile); err != nil {
		return nil, err
	}
	index, err := r.readIndex()
	if err != nil {
		return nil, err
	}
	files := []string{singleFile}
	if index != nil {
		files = files[:0]
		for _, f := range index {
			files = append(files, f)
		}
		slices.Sort(files)
		files = slices.Compact(files)
	}
	for _, f := range files {
		if err := r.openShard(f, index); err != nil {
			return nil, err
		}
	}
	if err := r.demand(index); err != nil {
		return nil, err
	}
	r.names = slices.Sorted(maps.Keys(r.where))
	if r.other, err = root.others(); err != nil {
		return nil, err
	}
	r.remember(r.other...)
	return r, nil
}

// readIndex returns nil when the checkpoint is a single file without an index.
func (r *Reader) readIndex() (map[string]string, error) {
	data, err := r.root.readFile(indexFile)
	if err == nil {
		return parseIndex(data, r.root.path(indexFile))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !r.root.exists(singleFile) {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: r.dir, Found: "neither " + singleFile + " nor " + indexFile,
			Wanted: "a Hugging Face directory with safetensors weights", Hint: "convert .bin or .pth weights to safetensors first",
		}
	}
	return nil, nil
}

// openShard reads one header and enters its tensors; with an index, they must
// be exactly those that the index places there.
func (r *Reader) openShard(file string, index map[string]string) error {
	f, size, err := r.root.open(file)
	if err != nil {
		return err
	}
	s := &shard{Shard: Shard{File: file, Bytes: size}, f: f}
	r.shards = append(r.shards, s)
	if s.opened, err = f.Stat(); err != nil {
		return readFault(r.root.path(file), err)
	}
	h, err := readHeader(f, size, r.root.path(file))
	if err != nil {
		return err
	}
	s.Metadata = h.metadata
	for _, t := range h.tensors {
		if index != nil && index[t.Name] != file {
			found := "a tensor that the index does not name"
			if other := index[t.Name]; other != "" {
				found = "a tensor that the index places in " + other
			}
			return &fault.Error{
				Err: ErrInvalid, Where: tensorIn(t.Name, r.root.path(file)), Found: found,
				Wanted: "shards and " + indexFile + " that agree", Hint: hintIndex,
			}
		}
		r.where[t.Name] = location{t, s}
	}
	return nil
}

// demand checks that every tensor of the index is in a shard.
func (r *Reader) demand(index map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(index)) {
		if !r.Has(name) {
			return &fault.Error{
				Err: ErrInvalid, Where: tensorIn(name, r.root.path(index[name])),
				Found: "no such tensor in the shard", Wanted: "what " + indexFile + " says", Hint: hintIndex,
			}
		}
	}
	return nil
}

// Close closes the files. Tensors already read stay valid.
func (r *Reader) Close() error {
	errs := []error{r.root.Close()}
	for _, s := range r.shards {
		errs = append(errs, s.f.Close())
	}
	return errors.Join(errs...)
}

// Dir is the directory as it was given to [Open].
func (r *Reader) Dir() string { return r.dir }

// ConfigJSON is config.json, byte for byte. The caller must not change it.
func (r *Reader) ConfigJSON() []byte { return r.config }

// Names lists the tensors, sorted. The caller must not change it.
func (r *Reader) Names() []string { return r.names }

// Has reports whether there is a tensor of that name.
func (r *Reader) Has(name string) bool { _, ok := r.where[name]; return ok }

// Shards lists the weight files, sorted by name.
func (r *Reader) Shards() []Shard {
	list := make([]Shard, len(r.shards))
	for i, s := range r.shards {
		list[i] = s.Shard
	}
	return list
}

// Files lists what else is in the directory and belongs to the model (tokenizer,
// generation_config.json, custom code, ...): slash-separated relative paths,
// sorted. config.json, weights in any format and hidden files are not among them.
func (r *Reader) Files() []string { return r.other }

// Info describes the tensor of that name; it must exist.
func (r *Reader) Info(name string) (Info, error) {
	l, err := r.find(name)
	return l.clone(), err
}

// File is the shard that holds the tensor of that name, for messages; it is
// the directory when there is none.
func (r *Reader) File(name string) string {
	if l, ok := r.where[name]; ok {
		return r.root.path(l.shard.File)
	}
	return r.dir
}

func (r *Reader) find(name string) (location, error) {
	l, ok := r.where[name]
	if !ok {
		return l, &fault.Error{
			Err: ErrInvalid, Where: tensorIn(name, r.dir), Found: "no such tensor",
			Wanted: "one that config.json asks for", Hint: "the checkpoint is incomplete or of another architecture",
		}
	}
	return l, nil
}

// Raw reads the bytes of a tensor into buf, which is grown when it is too
// small, and returns them.
func (r *Reader) Raw(name string, buf []byte) ([]byte, error) {
	l, err := r.find(name)
	if err != nil {
		return nil, err
	}
	n := int(l.Bytes())
	buf = slices.Grow(buf[:0], n)[:n]
	return buf, r.readAt(l, buf, 0)
}

// readAt fills buf from byte offset of the tensor at l.
func (r *Reader) readAt(l location, buf []byte, offset int64) error {
	n, err := l.shard.f.ReadAt(buf, l.offset+offset)
	if n == len(buf) {
		return nil
	}
	return readFault(tensorIn(l.Name, r.root.path(l.shard.File)), fmt.Errorf("at byte %d: %w", offset+int64(n), noEOF(err)))
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
