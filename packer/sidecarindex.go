package packer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

const (
	sidecarVersion = 1
	sidecarKey     = "quantize.attention"
	sidecarHashKey = "sha256"

	// maxIndexItems is above what an index of maxSidecarLayers has: three counts, a layer
	// of the plan and every mode as its candidate, with all their members.
	maxIndexItems = 40 * maxSidecarLayers
)

// sidecarIndex is what a sidecar holds, without the numbers. The header of the
// file follows from it and the data, so a reader rebuilds and compares it.
type sidecarIndex struct {
	Version    int      `json:"version"`
	KV         KVScheme `json:"kv"`
	KeyScales  []int    `json:"key_scales"`            // channels by layer; 0: ones
	KeyMeans   []int    `json:"key_means,omitempty"`   // channels by layer; 0: zeros
	ValueMeans []int    `json:"value_means,omitempty"` // channels by layer; 0: zeros
	FP8Layers  int      `json:"fp8_layers"`            // layers with k_scale and v_scale
	Down       string   `json:"down,omitempty"`        // Sidecar.Down

	Plan *AttentionPlan `json:"plan,omitempty"` // Sidecar.Plan
}

// channels are the counts of Sidecar.channelLists, in its order.
func (x *sidecarIndex) channels() []*[]int {
	return []*[]int{&x.KeyScales, &x.KeyMeans, &x.ValueMeans}
}

func indexOfSidecar(s *Sidecar) *sidecarIndex {
	x := &sidecarIndex{Version: sidecarVersion, KV: s.KV, KeyScales: []int{}, FP8Layers: len(s.KScales), Down: s.Down, Plan: s.Plan}
	counts := x.channels()
	for i, list := range s.channelLists() {
		for _, channels := range *list.layers {
			*counts[i] = append(*counts[i], len(channels))
		}
	}
	return x
}

// empty allocates the sidecar that x describes.
func (x *sidecarIndex) empty() *Sidecar {
	s := &Sidecar{KV: x.KV, Down: x.Down, Plan: x.Plan}
	counts := x.channels()
	for i, list := range s.channelLists() {
		if len(*counts[i]) > 0 {
			*list.layers = make([][]float32, len(*counts[i]))
		}
		for layer, n := range *counts[i] {
			if n > 0 {
				(*list.layers)[layer] = make([]float32, n)
			}
		}
	}
	if x.FP8Layers > 0 {
		s.KScales, s.VScales = make([]float32, x.FP8Layers), make([]float32, x.FP8Layers)
	}
	return s
}

// bytes is the size of the data; the limits of parseSidecarIndex keep it below 2^36.
func (x *sidecarIndex) bytes() int64 {
	total := 8 * int64(x.FP8Layers)
	for _, counts := range x.channels() {
		for _, n := range *counts {
			total += 4 * int64(n)
		}
	}
	return total
}

// header returns the length and the JSON of the file's header, given the tensors of
// [Sidecar.parts] and their data.
func (x *sidecarIndex) header(parts []sidecarPart, data []byte) ([]byte, error) {
	index, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	hash := sha256.New()
	hash.Write(index)
	hash.Write(data)
	metadata, err := json.Marshal(map[string]string{
		"format": "pt", sidecarKey: string(index), sidecarHashKey: hex.EncodeToString(hash.Sum(nil)),
	})
	if err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	fmt.Fprintf(&b, `{"__metadata__":%s`, metadata)
	at := 0
	for _, part := range parts {
		n := len(part.data)
		fmt.Fprintf(&b, `,"%s":{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]}`, part.name, n, at, at+4*n)
		at += 4 * n
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

// parseSidecarIndex reads the index from a header and checks its numbers.
func parseSidecarIndex(head []byte) (*sidecarIndex, error) {
	var object struct {
		Metadata map[string]string `json:"__metadata__"`
	}
	if err := json.Unmarshal(head, &object); err != nil {
		return nil, badSidecar("a header that is no JSON: "+err.Error(), "a safetensors header")
	}
	text, ok := object.Metadata[sidecarKey]
	if !ok {
		return nil, badSidecar("no "+sidecarKey+" in __metadata__", "one")
	}
	// What a decoder allocates for "{}," is twenty times as large.
	if n := strings.Count(text, "{") + strings.Count(text, ","); n > maxIndexItems {
		return nil, badSidecar(fmt.Sprintf("%s: a list of %d items", sidecarKey, n), fmt.Sprintf("at most %d", maxIndexItems))
	}
	x := &sidecarIndex{}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(x); err != nil {
		return nil, badSidecar(sidecarKey+": "+err.Error(), "its JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, badSidecar(sidecarKey+" with something behind it", "one JSON object")
	}
	if x.Version != sidecarVersion {
		return nil, badSidecar(fmt.Sprintf("version %d", x.Version), fmt.Sprintf("version %d", sidecarVersion))
	}
	if x.KeyScales == nil {
		return nil, badSidecar("no list of key_scales", "one")
	}
	if x.FP8Layers < 0 || x.FP8Layers > maxSidecarLayers {
		return nil, badSidecar(fmt.Sprintf("%d layers of fp8", x.FP8Layers), fmt.Sprintf("0 to %d", maxSidecarLayers))
	}
	for _, counts := range x.channels() {
		if n := len(*counts); n > maxSidecarLayers {
			return nil, badSidecar(fmt.Sprintf("%d layers", n), fmt.Sprintf("at most %d", maxSidecarLayers))
		}
		for layer, n := range *counts {
			if n < 0 || n > maxSidecarChannels {
				return nil, badSidecar(fmt.Sprintf("%d channels in layer %d", n, layer), fmt.Sprintf("0 to %d", maxSidecarChannels))
			}
		}
	}
	return x, nil
}
