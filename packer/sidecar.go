package packer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"quantize/internal/fault"
)

// SidecarPath is where an export keeps what no runtime has a contract for:
// beside the manifest, where no runtime searches for tensors.
const SidecarPath = "quantize/attention.safetensors"

// Sidecar says how the attention of a checkpoint, and the input of its down
// projections, are to be computed.
type Sidecar struct {
	KV KVScheme
	// KeyScales multiply keys after rotary embedding, before they are cached, and
	// divide queries: by layer, (KVHeads*HeadDim), rope.PostScales. A layer that is
	// nil has ones; nil altogether: all of them.
	KeyScales [][]float32
	// KeyMeans and ValueMeans are taken off before rounding (smooth K and V,
	// SageAttention2, arXiv 2411.10958; docs/methods.md 2.2, 2.3): by layer,
	// (KVHeads*HeadDim), in the units of the cached channels, so k·KeyScales -
	// KeyMeans and v - ValueMeans. A layer that is nil has zeros; nil altogether:
	// all of them.
	KeyMeans, ValueMeans [][]float32
	// KScales and VScales are those of an FP8 cache by layer:
	// e4m3((k·KeyScales - KeyMeans) / s). Of another format they are nil.
	KScales, VScales []float32
	// Down is [DownHadamard] where the input of every down projection is to be
	// rotated, by smoothing.NewHadamard of as many channels or, where there is none,
	// smoothing.BlockHadamard; "" where nothing is.
	Down string
	// Plan is what the attention of each layer multiplies; nil: nothing is rounded
	// beside the cache.
	Plan *AttentionPlan
}

// DownHadamard is the rotation that Sidecar.Down names.
const DownHadamard = "hadamard"

// The bounds of package model: layers, and channels of a layer.
const (
	maxSidecarLayers   = 1 << 12
	maxSidecarChannels = 1 << 20
	maxSidecarBytes    = 1 << 28
	// Of the header: more than as many layers need, each with all its tensors and every
	// mode measured. It is decoded before anything of it is checked.
	maxSidecarHeader = 1 << 23
)

// EncodeSidecar returns the bytes of a safetensors file:
//
//	layers.L.key_scale   F32 [KVHeads*HeadDim]   where there are any
//	layers.L.key_mean    F32 [KVHeads*HeadDim]   where there are any
//	layers.L.value_mean  F32 [KVHeads*HeadDim]   where there are any
//	layers.L.k_scale     F32 [1]                 FP8
//	layers.L.v_scale     F32 [1]                 FP8
//
// with the scheme, Down and the plan as JSON under quantize.attention, and the SHA-256 of that
// and the data, in __metadata__. Equal sidecars give equal bytes. A scheme, scales,
// means or a plan that do not fit each other and an unknown rotation are ErrOption, scales that
// are not positive and finite and means that are not finite ErrInvalid.
func EncodeSidecar(s *Sidecar) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	x := indexOfSidecar(s)
	if n := x.bytes(); n > maxSidecarBytes/2 {
		return nil, badSidecar(fmt.Sprintf("%d bytes of numbers", n), fmt.Sprintf("at most %d", maxSidecarBytes/2))
	}
	data := make([]byte, 0, x.bytes())
	for _, part := range s.parts() {
		for _, v := range part.data {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	head, err := x.header(s.parts(), data)
	if err != nil {
		return nil, err
	}
	return append(head, data...), nil
}

// ParseSidecar is the inverse of [EncodeSidecar], to the bit. Whatever EncodeSidecar
// would not have written, one byte of another value included, is ErrInvalid. Its
// memory is a small multiple of data.
func ParseSidecar(data []byte) (*Sidecar, error) {
	if len(data) < 8 || len(data) > maxSidecarBytes {
		return nil, badSidecar(fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("a header, at most %d", maxSidecarBytes))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxSidecarHeader {
		return nil, badSidecar(fmt.Sprintf("a header of %d bytes", n), fmt.Sprintf("at most %d", maxSidecarHeader))
	}
	if n > uint64(len(data)-8) {
		return nil, badSidecar(fmt.Sprintf("a header of %d bytes in a file of %d", n, len(data)), "a header inside the file")
	}
	head, body := data[:8+n], data[8+n:]
	x, err := parseSidecarIndex(head[8:])
	if err != nil {
		return nil, err
	}
	if want := x.bytes(); int64(len(body)) != want {
		return nil, badSidecar(fmt.Sprintf("%d bytes of numbers", len(body)), fmt.Sprint(want))
	}
	s := x.empty()
	if again, err := x.header(s.parts(), body); err != nil || !bytes.Equal(again, head) {
		return nil, badSidecar("a header or contents that were changed", "what its metadata and hash describe")
	}
	for _, part := range s.parts() {
		for i := range part.data {
			part.data[i] = math.Float32frombits(binary.LittleEndian.Uint32(body))
			body = body[4:]
		}
	}
	if err := s.check(); err != nil {
		if !errors.Is(err, ErrInvalid) {
			err = badSidecar(err.Error(), "a scheme")
		}
		return nil, err
	}
	return s, nil
}

// ReadSidecar reads the sidecar of the checkpoint in dir, nil when there is none.
func ReadSidecar(dir string) (*Sidecar, error) {
	path := filepath.Join(dir, filepath.FromSlash(SidecarPath))
	st, err := os.Stat(path) // before opening: a named pipe would block
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil && (!st.Mode().IsRegular() || st.Size() > maxSidecarBytes):
		err = errors.New("no regular file of at most 256 MiB")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: path, Found: err.Error(), Wanted: "a readable file"}
	}
	s, err := ParseSidecar(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return s, nil
}

func badSidecar(found, wanted string) error {
	return &fault.Error{
		Err: ErrInvalid, Where: SidecarPath, Found: found, Wanted: wanted,
		Hint: "the file is damaged or none of ours: quantize again",
	}
}
