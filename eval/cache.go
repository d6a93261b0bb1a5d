package eval

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Cache is a directory that keeps what the base gave on a text, so that the
// candidates of a later run do not wait for it. A record is named by the hash of
// all that decides it, appears whole (a rename) and is checked against its own
// sha256 when it is opened: runs may share the directory. A fault of it fails
// no evaluation, and the base is run instead, but for a read that fails when the record is open.
type Cache struct {
	Dir   string
	Limit int64       // of the bytes of all records; those used longest ago go first
	Warn  func(error) // told what could not be read or written; nil: nobody is
}

const (
	recordSuffix = ".base"
	// staleAfter is the age at which a temporary file is no longer of a run.
	staleAfter = 24 * time.Hour
)

// recordKey names the record of the base on the windows of a text. The weights,
// the instruction set and the program are in its ID.
func recordKey(base Candidate, windows [][]int32) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%d\x00", base.ID, base.Arithmetic, len(windows[0]))
	for _, w := range windows {
		_ = binary.Write(h, binary.LittleEndian, w) // a hash does not fail
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (c *Cache) path(key string) string { return filepath.Join(c.Dir, key+recordSuffix) }

// open gives the record of key, or nil where there is none of use: a damaged one
// is removed, one without hidden states is of none where they are needed.
func (c *Cache) open(key string, s recordShape, needHidden bool) *record {
	path := c.path(key)
	r, err := openRecord(path, s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		c.warn(fmt.Errorf("%w; the base is run again", err))
		_ = os.Remove(path) // what cannot be removed is found damaged again
		return nil
	case needHidden && !r.whole:
		r.close()
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // only the order of eviction depends on it
	return r
}

// create starts the record of key; nil where none can be kept. Hidden states
// that alone would take more than the limit are left out of it.
func (c *Cache) create(key string, s recordShape) *recordDraft {
	whole := s.size(true) <= c.Limit
	if s.size(whole) > c.Limit {
		return nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		c.warn(err)
		return nil
	}
	c.evict(s.size(whole))
	d, err := newRecordDraft(c.path(key), s, whole)
	if err != nil {
		c.warn(err)
		return nil
	}
	return d
}

// evict removes records, those used longest ago first, until the rest and the
// bytes to come fit the limit. Another run may evict at the same time; a record
// that it has open stays readable to it.
func (c *Cache) evict(coming int64) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		c.warn(err)
		return
	}
	var records []fs.FileInfo
	total := coming
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone already, or not ours
		}
		name := info.Name()
		switch {
		case strings.HasSuffix(name, recordSuffix):
			records = append(records, info)
			total += info.Size()
		case strings.Contains(name, recordSuffix+".tmp-") && time.Since(info.ModTime()) > staleAfter:
			_ = os.Remove(filepath.Join(c.Dir, name)) // of a run that was killed
		}
	}
	slices.SortFunc(records, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, r := range records {
		if total <= c.Limit {
			return
		}
		if err := os.Remove(filepath.Join(c.Dir, r.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.warn(err)
			continue
		}
		total -= r.Size()
	}
}

func (c *Cache) warn(err error) {
	if c.Warn != nil {
		c.Warn(err)
	}
}
