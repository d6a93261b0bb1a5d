package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"quantize/internal/fault"
)

// File writes a file beside the weights: config.json, quantize/manifest.json.
// rel is slash-separated and stays inside the output; a name is used once, and
// the top-level names of weights and index belong to the writer.
func (w *Writer) File(rel string, data []byte) error {
	return w.addFile(rel, bytes.NewReader(data))
}

// CopyFile copies a file of the source directory under the same name and gives the
// sha256, in hex, of what was written: the source may change by the next look at it.
func (w *Writer) CopyFile(r *Reader, rel string) (string, error) {
	if err := checkRel(rel); err != nil {
		return "", err
	}
	src, _, err := r.root.open(rel)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	err = w.addFile(rel, io.TeeReader(source{src, r.root.path(rel)}, sum))
	if err = errors.Join(err, src.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// source describes its own errors, so that they are not taken for the output's.
type source struct {
	io.Reader
	path string
}

func (s source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = readFault(s.path, err)
	}
	return n, err
}

func checkRel(rel string) error {
	if !fs.ValidPath(rel) || rel == "." || !filepath.IsLocal(filepath.FromSlash(rel)) {
		return &fault.Error{
			Err: ErrInvalid, Where: "file " + quote(rel), Found: "a path that is not plain and relative",
			Wanted: "one inside the directory, like config.json",
		}
	}
	return nil
}

func (w *Writer) addFile(rel string, data io.Reader) error {
	if err := checkRel(rel); err != nil {
		return err
	}
	weights := !strings.Contains(rel, "/") && strings.HasSuffix(rel, shardExt)
	w.mu.Lock()
	err, taken := w.usable(), w.others[rel]
	w.others[rel] = true
	w.mu.Unlock()
	switch {
	case err != nil:
		return err
	case taken, weights, rel == indexFile:
		return &fault.Error{Err: ErrInvalid, Where: "file " + quote(rel), Found: "a name in use", Wanted: "each file once, and none of the weights"}
	}
	return w.writeFile(rel, data)
}

// writeFile makes a durable file in the stage. These files are small, and two
// goroutines must not make one directory, so all is done under a lock.
func (w *Writer) writeFile(rel string, data io.Reader) error {
	w.staging.Lock()
	defer w.staging.Unlock()
	f, err := w.stage.Create(rel)
	if err != nil {
		return w.fail(rel, err)
	}
	_, err = io.Copy(f, data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return w.fail(rel, err)
	}
	return nil
}

// Abort removes everything that was written. After Commit it does nothing.
func (w *Writer) Abort() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.staging.Lock()
	defer w.staging.Unlock()
	for _, f := range w.files {
		_ = f.Close() // closed already, or about to be removed
	}
	if err := w.stage.Abort(); err != nil {
		return outputFault(w.stage.Out(), err)
	}
	return nil
}
