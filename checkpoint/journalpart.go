package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A part is a file of sections:
//
//	"QJOURNAL" | header length u64 | header JSON: run, key, sections | data of each | SHA-256 of all before
const journalMagic = "QJOURNAL"

// Section is one piece of a part.
type Section struct {
	Name  string    `json:"name"`
	Bytes int64     `json:"bytes"`
	Data  io.Reader `json:"-"` // gives exactly Bytes
}

// SectionOf is a section of bytes in memory.
func SectionOf(name string, data []byte) Section {
	return Section{Name: name, Bytes: int64(len(data)), Data: bytes.NewReader(data)}
}

type partHeader struct {
	Run      string    `json:"run"`
	Key      string    `json:"key"`
	Sections []Section `json:"sections"`
}

// Part is a finished part that was found again, and checked.
type Part struct {
	f        *os.File
	sections []Section
	offsets  []int64
}

func (j *Journal) path(key string) string {
	sum := sha256.Sum256([]byte(j.run + " " + key))
	return filepath.Join(j.dir, fmt.Sprintf("%s.%x", key, sum[:8]))
}

// Store keeps a part under key, durably, in the place of the one it had. A part
// that cannot be kept, on a full disk above all, costs the next run time and this
// one nothing, so that is a warning; errors are those of the sections' readers and of
// [Journal.Guard].
func (j *Journal) Store(key string, sections ...Section) error {
	if j == nil {
		return nil
	}
	if j.guard != nil {
		if err := j.guard(); err != nil {
			return err
		}
	}
	head, err := json.Marshal(partHeader{j.run, key, sections})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	var broken error // of a reader
	err = disk.WriteFrom(j.path(key), func(w io.Writer) error {
		sum := sha256.New()
		to := io.MultiWriter(w, sum)
		if _, err := to.Write(append(binary.LittleEndian.AppendUint64([]byte(journalMagic), uint64(len(head))), head...)); err != nil {
			return err
		}
		for _, s := range sections {
			from := &faultReader{Reader: s.Data}
			n, err := io.Copy(to, from)
			if broken = from.err; broken == nil && err == nil && n != s.Bytes {
				broken = fmt.Errorf("journal: section %s has %d bytes and not %d", s.Name, n, s.Bytes)
			}
			if err = errors.Join(err, broken); err != nil {
				return err
			}
		}
		_, err := w.Write(sum.Sum(nil))
		return err
	})
	if broken != nil {
		return broken
	}
	if err != nil {
		j.failed.Do(func() {
			j.warn(fmt.Sprintf("%s cannot be kept, so a run after this one would have to repeat it: %v", key, err))
		})
	}
	return nil
}

// faultReader remembers its error, to tell it from the writer's.
type faultReader struct {
	io.Reader
	err error
}

func (r *faultReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// Load finds the part kept under key, nil when there is none. One that is
// damaged is none, with a warning. The caller closes it.
func (j *Journal) Load(key string) *Part {
	if j == nil {
		return nil
	}
	p, err := readPart(j.path(key), j.run, key)
	if err == nil {
		return p
	}
	if !errors.Is(err, fs.ErrNotExist) {
		j.warn(fmt.Sprintf("%s in %s is damaged and made again: %v", key, j.Dir(), err))
		_ = os.Remove(j.path(key)) // or it is replaced
	}
	return nil
}

func readPart(path, run, key string) (_ *Part, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it was only read
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const before = int64(len(journalMagic)) + 8
	end := st.Size() - sha256.Size
	if end < before {
		return nil, fmt.Errorf("it has %d bytes", st.Size())
	}
	if err := checkSum(f, end); err != nil {
		return nil, err
	}
	start := make([]byte, before)
	if _, err := f.ReadAt(start, 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(start[len(journalMagic):])
	if string(start[:len(journalMagic)]) != journalMagic || n > uint64(end-before) {
		return nil, errors.New("it does not begin as a part does")
	}
	var h partHeader
	d := json.NewDecoder(io.NewSectionReader(f, before, int64(n)))
	if err := d.Decode(&h); err != nil {
		return nil, err
	}
	if h.Run != run || h.Key != key {
		return nil, fmt.Errorf("it holds %s of another run", h.Key)
	}
	p := &Part{f: f, sections: h.Sections}
	at := before + int64(n)
	for _, s := range h.Sections {
		p.offsets = append(p.offsets, at)
		at += s.Bytes
	}
	if at != end {
		return nil, fmt.Errorf("it has %d bytes of sections and not %d", end-before-int64(n), at-before-int64(n))
	}
	return p, nil
}

// checkSum compares the SHA-256 of the first end bytes with what follows them.
func checkSum(f *os.File, end int64) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, end)); err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if _, err := f.ReadAt(want, end); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return errors.New("its checksum does not fit")
	}
	return nil
}

// Sections lists what the part has.
func (p *Part) Sections() []Section { return p.sections }

// Section reads a section; nil where the part has none of that name.
func (p *Part) Section(name string) *io.SectionReader {
	for i, s := range p.sections {
		if s.Name == name {
			return io.NewSectionReader(p.f, p.offsets[i], s.Bytes)
		}
	}
	return nil
}

// Bytes reads a section whole; it must be there.
func (p *Part) Bytes(name string) ([]byte, error) {
	s := p.Section(name)
	if s == nil {
		return nil, fmt.Errorf("journal: no section %s", name)
	}
	data := make([]byte, s.Size())
	_, err := io.ReadFull(s, data)
	return data, err
}

// Close ends the reading.
func (p *Part) Close() error {
	if p == nil {
		return nil
	}
	return p.f.Close()
}
