package packer

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// files looks for weights beside the shards of the checkpoint: what an earlier
// export left is loaded by runtimes that take every *.safetensors of a directory.
func (v *verifier) files() {
	var bad []string
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		bad = append(bad, err.Error())
	}
	shards := map[string]bool{}
	for _, s := range v.r.Shards() {
		shards[s.File] = true
	}
	for _, e := range entries {
		name := e.Name()
		weights := slices.ContainsFunc([]string{".safetensors", ".bin", ".pt", ".pth"}, func(ext string) bool { return strings.HasSuffix(name, ext) })
		if weights && !e.IsDir() && !shards[name] {
			bad = append(bad, name+": found weights that belong to no shard, wanted none (a runtime that takes every file loads them)")
		}
	}
	v.item(ItemFiles, fmt.Sprintf("nothing but %d shards", len(shards)), bad)
}

// index checks what opening the checkpoint does not: the index is there, its
// total_size is the sum of the tensors, every shard names its framework.
func (v *verifier) index() {
	var bad []string
	var total int64
	for _, name := range v.r.Names() {
		if info, err := v.r.Info(name); err == nil {
			total += info.Bytes()
		}
	}
	const file = "model.safetensors.index.json"
	if data, err := v.read(file); err != nil {
		bad = append(bad, fmt.Sprintf("%s: %v", file, err))
	} else {
		var index struct {
			Metadata struct {
				TotalSize *int64 `json:"total_size"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(data, &index); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", file, err))
		} else if s := index.Metadata.TotalSize; s == nil || *s != total {
			found := "none"
			if s != nil {
				found = fmt.Sprint(*s)
			}
			bad = append(bad, fmt.Sprintf("%s metadata.total_size: found %s, wanted %d", file, found, total))
		}
	}
	for _, s := range v.r.Shards() {
		if got := s.Metadata["format"]; got != "pt" {
			bad = append(bad, fmt.Sprintf("%s __metadata__.format: found %q, wanted \"pt\" (transformers refuses the file)", s.File, got))
		}
	}
	v.item(ItemIndex, fmt.Sprintf("%d bytes of tensors", total), bad)
}
