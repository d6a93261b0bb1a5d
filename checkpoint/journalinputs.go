package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quantize/internal/fault"
)

// ErrStale says that the parts of a journal were made of something else.
var ErrStale = errors.New("an unfinished run of other inputs")

// Input is one thing that the bytes of an output depend on: a name for messages,
// and a value or its hash.
type Input struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// journalInputs is the content of inputs.json.
type journalInputs struct {
	Version int     `json:"journal_version"`
	Inputs  []Input `json:"inputs"`
}

const journalVersion = 1

// Begin says what the output is made of. Parts that were made of the same are
// used; parts of anything else are refused as ErrStale, which names what differs:
// hours of work are not thrown away for a mistyped flag. fresh discards them.
func (j *Journal) Begin(inputs []Input, fresh bool) error {
	now := journalInputs{journalVersion, inputs}
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	sum := sha256.Sum256(data)
	j.run = hex.EncodeToString(sum[:])
	path := filepath.Join(j.dir, inputsFile)
	found, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return outputFault(path, err)
	case string(found) == string(data) && !fresh:
		return nil
	}
	if n := j.Count(""); n > 0 && !fresh {
		var before journalInputs
		if json.Unmarshal(found, &before) == nil && before.Version == journalVersion {
			return j.stale(before.Inputs, inputs, n)
		}
		j.warn(fmt.Sprintf("%s is damaged: the %d parts beside it are not used", filepath.Join(j.Dir(), inputsFile), n))
	}
	if err := j.discard(); err != nil {
		return outputFault(j.dir, err)
	}
	if err := disk.Write(path, data); err != nil {
		return outputFault(path, err)
	}
	return nil
}

func (j *Journal) stale(before, now []Input, parts int) error {
	old := map[string]string{}
	for _, in := range before {
		old[in.Name] = in.Value
	}
	var found, wanted []string
	for _, in := range now {
		if old[in.Name] != in.Value {
			found = append(found, in.Name+" "+brief(old[in.Name]))
			wanted = append(wanted, in.Name+" "+brief(in.Value))
		}
		delete(old, in.Name)
	}
	for _, in := range before {
		if v, left := old[in.Name]; left {
			found = append(found, in.Name+" "+brief(v))
		}
	}
	return &fault.Error{
		Err: fmt.Errorf("%w: %w", ErrOutput, ErrStale), Where: j.Dir(),
		Found: fmt.Sprintf("%d finished parts of %s", parts, strings.Join(found, ", ")), Wanted: strings.Join(wanted, ", "),
		Hint: "run what was interrupted to continue it, discard it with --fresh, or name another output",
	}
}

// brief cuts a hash for a message.
func brief(value string) string {
	if len(value) == hex.EncodedLen(sha256.Size) {
		return value[:12]
	}
	if value == "" {
		return "none"
	}
	return value
}
