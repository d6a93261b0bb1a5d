package checkpoint

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"quantize/internal/fault"
)

const (
	configFile = "config.json"
	singleFile = "model.safetensors"
	indexFile  = "model.safetensors.index.json"
	shardExt   = ".safetensors"
)

// parseIndex reads weight_map: tensor name to shard file. The rest of the
// index is not used: total_size is wrong in many published checkpoints.
func parseIndex(data []byte, file string) (map[string]string, error) {
	invalid := func(where, found, wanted, hint string) error {
		return &fault.Error{Err: ErrInvalid, Where: where, Found: found, Wanted: wanted, Hint: hint}
	}
	if !utf8.Valid(data) {
		return nil, invalid(file, "an index that is not UTF-8", "a JSON object", "")
	}
	fields, err := jsonObject(data)
	if err != nil {
		return nil, invalid(file, "a bad index: "+err.Error(), "a JSON object with weight_map", "")
	}
	var entries []field
	found := false
	for _, f := range fields {
		if f.key != "weight_map" {
			continue
		}
		found = true
		if entries, err = jsonObject(f.value); err != nil {
			return nil, invalid(file, "a bad weight_map: "+err.Error(), "an object of tensor names and shard files", "")
		}
	}
	if !found || len(entries) == 0 {
		return nil, invalid(file, "no tensor in weight_map", "an object of tensor names and shard files", "")
	}
	shards := make(map[string]string, len(entries))
	for _, e := range entries {
		var shard string
		if !bytes.HasPrefix(e.value, []byte{'"'}) || json.Unmarshal(e.value, &shard) != nil {
			return nil, invalid(tensorIn(e.key, file), "a shard that is not a string", "a file name", "")
		}
		if !isShardName(shard) {
			return nil, invalid(tensorIn(e.key, file), "shard "+quote(shard), "a plain *"+shardExt+" file name beside the index",
				"an index must not name files outside its directory")
		}
		shards[e.key] = shard
	}
	return shards, nil
}

// isShardName admits plain names only: no separator of any system, no drive.
func isShardName(s string) bool {
	return strings.HasSuffix(s, shardExt) && filepath.IsLocal(s) && !strings.ContainsAny(s, "/\\:\x00")
}
