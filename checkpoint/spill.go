package checkpoint

import (
	"os"

	"quantize/internal/fault"
)

// Spill makes a file for data that memory has no room for. Its name is removed at
// once, so that the system frees it with the process, however that ends.
func (j *Journal) Spill() (*SpillFile, error) {
	f, err := os.CreateTemp(j.dir, ".spill-*")
	if err != nil {
		return nil, outputFault(j.Dir(), err)
	}
	_ = os.Remove(f.Name()) // where an open file has to have a name, Close of the journal removes it
	return &SpillFile{f, j.Dir()}, nil
}

// SpillFile is a file of [Journal.Spill].
type SpillFile struct {
	f   *os.File
	dir string
}

// ReadAt is that of [io.ReaderAt].
func (s *SpillFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := s.f.ReadAt(p, at)
	return n, s.describe(err)
}

// WriteAt is that of [io.WriterAt].
func (s *SpillFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := s.f.WriteAt(p, at)
	return n, s.describe(err)
}

// Close frees the disk space.
func (s *SpillFile) Close() error { return s.f.Close() }

func (s *SpillFile) describe(err error) error {
	if err == nil {
		return nil
	}
	err = outputFault(s.dir, err)
	if f, ok := err.(*fault.Error); ok && f.Hint != "" { //nolint:errorlint // outputFault makes it
		f.Hint = "free space on this disk, or give --memory more"
	}
	return err
}
