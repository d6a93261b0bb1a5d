package packer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
)

// Check is one thing that Verify looked at.
type Check struct {
	Item   string `json:"item"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was found; of a failure, where and what was wanted
}

// Verification is the outcome of Verify: OK when every check is.
type Verification struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// The items that Verify checks, in this order; the numbers are those of the
// checklist in docs/formats.md 16. An item has one passed check or as many failed
// ones as there are faults.
const (
	ItemStructure  = "structure"  // 1: every header parses, index and shards agree
	ItemFiles      = "files"      // 11: no stale weights beside the shards
	ItemIndex      = "index"      // 1: total_size, __metadata__.format
	ItemConfig     = "config"     // 5: quantization_config of config.json
	ItemVariant    = "variant"    // w4a16/config.json beside it
	ItemEmbeddings = "embeddings" // 10: tie_word_embeddings and the head agree
	ItemIgnore     = "ignore"     // 6: quantized is what config.json says is, under a runtime's names too
	ItemFused      = "fused"      // 4: shards of a merged layer are alike
	ItemNames      = "names"      // 2: every expected tensor, and nothing else
	ItemShapes     = "shapes"     // 3: dtype and shape of every expected tensor
	ItemCache      = "cache"      // 9: kv_cache_scheme exactly where there are scales
	ItemAttention  = "attention"  // the sidecar and its plan
	ItemPrivate    = "private"    // what only this program computes is refused by others
	ItemFinite     = "finite"     // 7: no NaN or infinity in what stays in full precision
	ItemShape      = "weight_shape"
	ItemScales     = "scales"   // 7: finite and positive
	ItemCodes      = "codes"    // in range of the grid, no FP8 NaN
	ItemGrid       = "grid"     // 7: scales reload to themselves
	ItemHashes     = "hashes"   // 8, 11: every tensor and file against the manifest
	ItemOrigin     = "origin"   // 2, 11: every tensor of the source is accounted for
	ItemSource     = "source"   // 8: the source itself, when it is given
	ItemRuntimes   = "runtimes" // 3, 12: which runtimes load it; never a fault
)

// Verify derives again everything about the quantized checkpoint in dir that
// can be derived from its bytes, and reports all faults, not just the first.
// Runtimes check little of this: vLLM loads a checkpoint without one of its
// scales and produces garbage. The error is for a directory that cannot be read
// at all, and the context's, which is asked before each tensor; faults of its
// contents are failed checks.
func Verify(ctx context.Context, dir string) (*Verification, error) {
	return VerifyAgainst(ctx, dir, nil)
}

// VerifyAgainst is [Verify] with the checkpoint that dir was made from: its tensors
// must be those that the manifest names, and where nothing but rounding was done
// to a weight, the error that the manifest gives must be that of the bytes.
func VerifyAgainst(ctx context.Context, dir string, source *checkpoint.Reader) (*Verification, error) {
	st, err := os.Stat(dir)
	if err != nil || !st.IsDir() {
		f := &fault.Error{Err: ErrInvalid, Where: dir, Found: "no directory", Wanted: "a quantized checkpoint"}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.Found = err.Error()
		}
		return nil, f
	}
	v := &verifier{dir: dir, source: source}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	return v.outcome(), nil
}

// VerifyFiles makes the checks of [VerifyAgainst] that hold for a checkpoint of the
// model c in any format: files, index, hashes against the manifest and, where source is
// not nil, those of the source.
func VerifyFiles(ctx context.Context, r *checkpoint.Reader, c *model.Config, source *checkpoint.Reader) (*Verification, error) {
	v := &verifier{dir: r.Dir(), r: r, config: c, source: source}
	v.files()
	v.index()
	if err := v.hashes(ctx, v.readManifest()); err != nil {
		return nil, err
	}
	if source != nil && c != nil && v.manifest != nil {
		bad, err := v.sameSource(ctx)
		if err != nil {
			return nil, err
		}
		v.item(ItemSource, fmt.Sprintf("the hashes of %d tensors are the manifest's; errors are not computed again in this format", len(v.manifest.Sources)), bad)
	}
	return v.outcome(), nil
}

func (v *verifier) outcome() *Verification {
	out := &Verification{OK: true, Checks: v.checks}
	for _, c := range v.checks {
		out.OK = out.OK && c.OK
	}
	return out
}

type verifier struct {
	dir    string
	source *checkpoint.Reader // nil: not at hand
	checks []Check

	r        *checkpoint.Reader
	config   *model.Config
	quant    *QuantizationConfig
	manifest *Manifest
	quantity map[string]linear // quantized linears by module
	order    []string          // their names in order of computation
}

// linear is a quantized linear as the configuration describes it.
type linear struct {
	LinearShape
	scheme Scheme
	group  int
	intact bool // its tensors are there, with the right dtype and shape
}

// run makes the checks; its error is that of the context.
func (v *verifier) run(ctx context.Context) error {
	r, err := checkpoint.Open(v.dir)
	if err != nil {
		v.item(ItemStructure, "", faults(err))
		return nil
	}
	defer func() { _ = r.Close() }() // it was only read
	v.r = r
	v.item(ItemStructure, fmt.Sprintf("%d tensors in %d shards", len(r.Names()), len(r.Shards())), nil)
	v.files()
	v.index()
	if !v.configs() {
		return nil
	}
	missing := v.readManifest()
	v.embeddings()
	v.ignored()
	v.fused()
	v.names()
	v.shapes()
	v.cache()
	v.attention()
	v.private()
	if err := v.finite(ctx); err != nil {
		return err
	}
	if err := v.values(ctx); err != nil {
		return err
	}
	if err := v.hashes(ctx, missing); err != nil {
		return err
	}
	v.origin()
	if err := v.against(ctx); err != nil {
		return err
	}
	v.runtimes()
	return nil
}

// item adds one check when there are no faults, else one for each fault.
func (v *verifier) item(name, detail string, bad []string) {
	if len(bad) == 0 {
		v.checks = append(v.checks, Check{name, true, detail})
	}
	for _, b := range bad {
		v.checks = append(v.checks, Check{name, false, b})
	}
}

// faults takes joined errors apart.
func faults(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, faults(e)...)
		}
		return all
	}
	return []string{err.Error()}
}

// read reads a small file of the directory.
func (v *verifier) read(rel string) ([]byte, error) {
	path := filepath.Join(v.dir, filepath.FromSlash(rel))
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > largestManifest {
		return nil, fmt.Errorf("%s: no regular file of at most %d bytes", rel, largestManifest)
	}
	return os.ReadFile(path)
}
