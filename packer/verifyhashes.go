package packer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"quantize/checkpoint"
)

// readManifest reads the manifest and returns what is wrong with it.
func (v *verifier) readManifest() (bad []string) {
	data, err := v.read(ManifestPath)
	if err == nil {
		v.manifest, err = ParseManifest(data)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return []string{ManifestPath + ": found no manifest, wanted the one that export writes"}
	default:
		return []string{err.Error()}
	}
}

// hashes compares every tensor and every configuration file with the manifest.
func (v *verifier) hashes(ctx context.Context, bad []string) error {
	if v.manifest == nil {
		v.item(ItemHashes, "", bad)
		return nil
	}
	for _, name := range v.r.Names() {
		want, listed := v.manifest.Tensors[name]
		if !listed {
			bad = append(bad, name+": found a tensor that the manifest does not list, wanted none")
			continue
		}
		got, err := hashTensor(ctx, v.r, name)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			bad = append(bad, err.Error())
		} else if got != want {
			bad = append(bad, fmt.Sprintf("%s: found sha256 %s, wanted %s, as the manifest says", name, got, want))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.manifest.Tensors)) {
		if !v.r.Has(name) {
			bad = append(bad, name+": found no such tensor, wanted the one that the manifest lists")
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(v.manifest.Files)) {
		want := v.manifest.Files[rel]
		if !filepath.IsLocal(rel) {
			bad = append(bad, fmt.Sprintf("%s: found %q among the files, wanted paths inside the checkpoint", ManifestPath, rel))
			continue
		}
		got, err := hashFile(ctx, filepath.Join(v.dir, filepath.FromSlash(rel)))
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", rel, err))
		} else if got != want {
			bad = append(bad, fmt.Sprintf("%s: found sha256 %s, wanted %s, as the manifest says", rel, got, want))
		}
	}
	v.item(ItemHashes, fmt.Sprintf("%d tensors as written", len(v.r.Names())), bad)
	return nil
}

// hashTensor is the SHA-256 of a tensor of any size, in hex.
func hashTensor(ctx context.Context, r *checkpoint.Reader, name string) (string, error) {
	sum := sha256.New()
	err := r.Copy(ctx, sum, name)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// hashFile is the SHA-256 of a file of any size, in hex.
func hashFile(ctx context.Context, path string) (string, error) {
	st, err := os.Stat(path) // before it is opened: a pipe would wait
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", errors.New("found no regular file, wanted one")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	sum := sha256.New()
	_, err = io.Copy(sum, asking{ctx, f})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// asking asks a context before each read.
type asking struct {
	ctx context.Context //nolint:containedctx // of one call of io.Copy
	io.Reader
}

func (a asking) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.Reader.Read(p)
}
