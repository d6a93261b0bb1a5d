package packer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
		} else if data, err := v.read(rel); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", rel, err))
		} else if got := sha256Hex(data); got != want {
			bad = append(bad, fmt.Sprintf("%s: found sha256 %s, wanted %s, as the manifest says", rel, got, want))
		}
	}
	v.item(ItemHashes, fmt.Sprintf("%d tensors as written", len(v.r.Names())), bad)
	return nil
}
