package cuda

import (
	"testing"

	"pgregory.net/rapid"
)

// Every record has a block, no sequence more parts than are merged, and rings fit.
func TestKVPlan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pairs, records := rapid.IntRange(1, 4096).Draw(t, "pairs"), rapid.IntRange(0, 1<<14).Draw(t, "records")
		chunk := kvChunk(132, pairs, records)
		if chunk < kvWarps || chunk%kvWarps != 0 || ceilDiv(records, chunk) > kvMaxSplits {
			t.Fatalf("chunks of %d records", chunk)
		}
	})
	for _, l := range kvLayouts() {
		if n := l.kvStages(); n < 2 || n*kvWarps*l.RecordBytes() > kvSharedBytes {
			t.Errorf("%v: %d stages of %d bytes", l, n, l.RecordBytes())
		}
	}
	for _, c := range []struct{ pairs, records, want int }{{512, 64, 64}, {128, 128, 128}, {8, 512, 32}, {8, 1, 4}} {
		if got := kvChunk(132, c.pairs, c.records); got != c.want {
			t.Errorf("%d pairs of %d records: chunks of %d, wanted %d", c.pairs, c.records, got, c.want)
		}
	}
}
