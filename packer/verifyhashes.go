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
	var buf []byte
	var err error
	for _, name := range v.r.Names() {
		if err := ctx.Err(); err != nil {
			return err
		}
		want, listed := v.manifest.Tensors[name]
		if !listed {
			bad = append(bad, name+": found a tensor that the manifest does not list, wanted none")
			continue
		}
		if buf, err = v.r.Raw(name, buf); err != nil {
			bad = append(bad, err.Error())
		} else if got := sha256Hex(buf); got != want {
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
		} else if got, err := hashFile(filepath.Join(v.dir, filepath.FromSlash(rel))); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", rel, err))
		} else if got != want {
			bad = append(bad, fmt.Sprintf("%s: found sha256 %s, wanted %s, as the manifest says", rel, got, want))
		}
	}
	v.item(ItemHashes, fmt.Sprintf("%d tensors as written", len(v.r.Names())), bad)
	return nil
}

// hashFile is the SHA-256 of a file of any size, in hex.
func hashFile(path string) (string, error) {
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
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
