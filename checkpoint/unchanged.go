package checkpoint

import (
	"fmt"

	"quantize/internal/fault"
)

// ErrChanged says that the files of a checkpoint are not what they were when it was
// opened. It is an [ErrInvalid].
var ErrChanged = fmt.Errorf("%w: the source was changed", ErrInvalid)

// Unchanged reports with [ErrChanged] a shard that was written to since the checkpoint was
// opened: its size, or its time of change, is another. A file that another took the place
// of is still read as it was.
func (r *Reader) Unchanged() error {
	for _, s := range r.shards {
		now, err := s.f.Stat()
		if err != nil {
			return readFault(s.File, err)
		}
		if now.Size() != s.opened.Size() || !now.ModTime().Equal(s.opened.ModTime()) {
			return &fault.Error{
				Err: ErrChanged, Where: s.File, Found: "a write at " + now.ModTime().UTC().Format("2006-01-02 15:04:05 MST"),
				Wanted: "a source that nobody changes meanwhile", Hint: "run again when it is complete",
			}
		}
	}
	return nil
}
