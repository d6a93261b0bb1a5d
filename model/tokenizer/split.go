package tokenizer

import "slices"

// behavior says what becomes of the matches when text is split at a pattern.
type behavior string

const (
	removed            behavior = "Removed"
	isolated           behavior = "Isolated"
	mergedWithPrevious behavior = "MergedWithPrevious"
	mergedWithNext     behavior = "MergedWithNext"
	contiguous         behavior = "Contiguous"
)

// check refuses a behavior this package does not know.
func (b behavior) check(where string) error {
	switch b {
	case removed, isolated, mergedWithPrevious, mergedWithNext, contiguous:
		return nil
	}
	return unsupported(where, "split behavior "+quote(string(b)),
		"Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous")
}

// span is a part of a text, a match of the pattern or what lies between two.
type span struct {
	start, end int
	match      bool
}

// spans lists matches and gaps from left to right; invert swaps them.
func spans(m matcher, s string, invert bool) ([]span, error) {
	var list []span
	at := 0
	err := m.matches(s, func(start, end int) {
		if start > at {
			list = append(list, span{at, start, invert})
		}
		list = append(list, span{start, end, !invert})
		at = end
	})
	if at < len(s) {
		list = append(list, span{at, len(s), invert})
	}
	return list, err
}

// arrange applies the behavior to matches and gaps, in place.
func (b behavior) arrange(list []span) []span {
	switch b {
	case removed:
		return slices.DeleteFunc(list, func(s span) bool { return s.match })
	case contiguous:
		return fold(list, func(before, now bool) bool { return before == now })
	case mergedWithPrevious:
		return fold(list, func(before, now bool) bool { return now && !before })
	case mergedWithNext:
		// The mirror image of mergedWithPrevious.
		slices.Reverse(list)
		list = fold(list, func(before, now bool) bool { return now && !before })
		slices.Reverse(list)
		return list
	default: // isolated: matches and gaps as they are
		return list
	}
}

// fold joins a span to the one kept before it where join says so, given
// whether the neighbour before and the span itself are matches.
func fold(list []span, join func(before, now bool) bool) []span {
	kept := list[:0]
	before := false
	for _, s := range list {
		now := s.match
		if n := len(kept); n > 0 && join(before, now) {
			kept[n-1].start = min(kept[n-1].start, s.start)
			kept[n-1].end = max(kept[n-1].end, s.end)
		} else {
			kept = append(kept, s)
		}
		before = now
	}
	return kept
}
