package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/internal/atomicfile"
	"quantize/internal/fault"
	"quantize/packer"
)

// ResultsPath is where results of eval are kept inside a quantized checkpoint.
const ResultsPath = "quantize/evaluation.json"

// results is the content of that file. The hash ties them to the bytes that were
// measured: the manifest has those of every tensor.
type results struct {
	Manifest string        `json:"manifest_sha256"`
	Readings []eval.Report `json:"readings"`
}

// largestResults bounds what is parsed; ten thousand windows take 200 kB.
const largestResults = 64 << 20

// ResultsFile is where [SaveResults] keeps those of the checkpoint in dir.
func ResultsFile(dir string) string { return filepath.Join(dir, filepath.FromSlash(ResultsPath)) }

// SaveResults keeps results beside the manifest of the checkpoint in dir. Those of the
// checkpoint itself come first; those of others may follow. One without a manifest is
// [eval.ErrInput].
func SaveResults(dir string, readings []eval.Report) error {
	if err := CanSave(dir); err != nil {
		return err
	}
	sum, err := manifestHash(dir)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(results{sum, readings}, "", "  ")
	if err != nil {
		return fmt.Errorf("results: %w", err) // a number that is not finite
	}
	if err := atomicfile.Write(ResultsFile(dir), append(data, '\n')); err != nil {
		return errors.Join(checkpoint.ErrOutput, err)
	}
	return nil
}

// CanSave finds what would keep [SaveResults] from knowing the checkpoint in dir.
func CanSave(dir string) error {
	_, err := packer.ReadManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &fault.Error{
			Err: eval.ErrInput, Where: dir, Found: "no " + packer.ManifestPath, Wanted: "a checkpoint that quantize wrote, to keep results in",
			Hint: "quantize eval without --save measures any checkpoint",
		}
	}
	return err
}

// ReadResults reads what [SaveResults] kept; none where there is no file. A damaged
// file and results of other bytes are [packer.ErrInvalid].
func ReadResults(dir string) ([]eval.Report, error) {
	path := ResultsFile(dir)
	bad := func(found, wanted string) error {
		return &fault.Error{Err: packer.ErrInvalid, Where: path, Found: found, Wanted: wanted, Hint: "measure again: quantize eval --save"}
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, bad(err.Error(), "a readable file")
	case !st.Mode().IsRegular() || st.Size() > largestResults:
		return nil, bad(fmt.Sprintf("%d bytes, or no file", st.Size()), fmt.Sprintf("a file of at most %d", largestResults))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, bad(err.Error(), "a readable file")
	}
	var r results
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, bad(err.Error(), "results of eval")
	}
	sum, err := manifestHash(dir)
	if err != nil {
		return nil, err
	}
	if r.Manifest != sum {
		return nil, bad("results of a checkpoint with manifest "+short(r.Manifest), "of this one, "+short(sum))
	}
	return r.Readings, nil
}

// OwnResults are those of the checkpoint that [ReadResults] was asked for: the first names
// it, also where its directory has another name by now.
func OwnResults(kept []eval.Report) []eval.Report {
	return slices.DeleteFunc(slices.Clone(kept), func(r eval.Report) bool { return r.Model != kept[0].Model })
}

func manifestHash(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(packer.ManifestPath)))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// short is the beginning of a hash, enough to tell two apart.
func short(hash string) string { return hash[:min(12, len(hash))] }
