package calibrate

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"

	"quantize/checkpoint"
	"quantize/model"
)

// Phase makes a run of [Collect] one that an interruption does not send back to
// its start. After each block the journal has, in one part that is replaced,
//
//	sites: gob of what was collected | state: what the caller made of it | hidden: F32 of all windows
//
// and after the last one the same without hidden.
type Phase struct {
	Journal *checkpoint.Journal
	Key     string // of the part
	// Save gives the state of the caller's OnSites, and Restore takes it back before
	// the first block; nil: there is none.
	Save    func() ([]byte, error)
	Restore func(state []byte) error
}

// sitesSection is what is stored in sites.
type sitesSection struct {
	Done  int // blocks
	Sites []SiteStats
}

// restore brings the collector to where an earlier run was, and returns the part
// that it left, or nil, and the number of blocks that it had done.
func (p *Phase) restore(c *collector) (*checkpoint.Part, int, error) {
	if p == nil {
		return nil, 0, nil
	}
	part := p.Journal.Load(p.Key)
	if part == nil {
		return nil, 0, nil
	}
	var s sitesSection
	data, err := part.Bytes("sites")
	if err == nil {
		err = Decode(data, &s)
	}
	if err == nil && p.Restore != nil {
		if data, err = part.Bytes("state"); err == nil {
			err = p.Restore(data)
		}
	}
	c.done = s.Sites
	return part, s.Done, err
}

// keep stores what is done.
func (p *Phase) keep(c *collector, done, layers int, hidden *model.Hidden) error {
	if p == nil {
		return nil
	}
	sites, err := Encode(sitesSection{done, c.done})
	if err != nil {
		return err
	}
	sections := []checkpoint.Section{checkpoint.SectionOf("sites", sites)}
	if p.Save != nil {
		state, err := p.Save()
		if err != nil {
			return err
		}
		sections = append(sections, checkpoint.SectionOf("state", state))
	}
	if done < layers {
		sections = append(sections, checkpoint.Section{Name: "hidden", Bytes: hidden.Bytes(), Data: hidden.Reader()})
	}
	return p.Journal.Store(p.Key, sections...)
}

// Encode is gob, which keeps every float of a slice to the bit, for the parts of a journal.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return b.Bytes(), nil
}

// Decode reads what [Encode] gave.
func Decode(data []byte, v any) error {
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(v); err != nil {
		return errors.Join(ErrInvalid, fmt.Errorf("journal: %w", err))
	}
	return nil
}
