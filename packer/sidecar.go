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

// Sidecar says how the attention of a checkpoint is to be computed.
type Sidecar struct {
	KV KVScheme
	// KeyScales multiply keys after rotary embedding, before they are cached, and
	// divide queries: by layer, (KVHeads*HeadDim), rope.PostScales. A layer that is
	// nil has ones; nil altogether: all of them.
	KeyScales [][]float32
	// KScales and VScales are those of an FP8 cache by layer: e4m3(k·KeyScales / s).
	// Of another format they are nil.
	KScales, VScales []float32
}

// The bounds of package model: layers, and channels of a layer.
const (
	maxSidecarLayers   = 1 << 12
	maxSidecarChannels = 1 << 20
	maxSidecarBytes    = 1 << 28
)

// EncodeSidecar returns the bytes of a safetensors file:
//
//	layers.L.key_scale   F32 [KVHeads*HeadDim]   where there are any
//	layers.L.k_scale     F32 [1]                 FP8
//	layers.L.v_scale     F32 [1]                 FP8
//
// with the scheme as JSON under quantize.attention, and the SHA-256 of that and the
// data, in __metadata__. Equal sidecars give equal bytes. A scheme or scales that do
// not fit each other are ErrOption, scales that are not positive and finite ErrInvalid.
func EncodeSidecar(s *Sidecar) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	x := indexOfSidecar(s)
	if n := x.bytes(); n > maxSidecarBytes/2 {
		return nil, badSidecar(fmt.Sprintf("%d bytes of scales", n), fmt.Sprintf("at most %d", maxSidecarBytes/2))
	}
	data := make([]byte, 0, x.bytes())
	for _, part := range s.parts() {
		for _, v := range part {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	head, err := x.header(data)
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
	if n > uint64(len(data)-8) {
		return nil, badSidecar(fmt.Sprintf("a header of %d bytes in a file of %d", n, len(data)), "a header inside the file")
	}
	head, body := data[:8+n], data[8+n:]
	x, err := parseSidecarIndex(head[8:])
	if err != nil {
		return nil, err
	}
	if want := x.bytes(); int64(len(body)) != want {
		return nil, badSidecar(fmt.Sprintf("%d bytes of scales", len(body)), fmt.Sprint(want))
	}
	if again, err := x.header(body); err != nil || !bytes.Equal(again, head) {
		return nil, badSidecar("a header or contents that were changed", "what its metadata and hash describe")
	}
	s := x.empty()
	for _, part := range s.parts() {
		for i := range part {
			part[i] = math.Float32frombits(binary.LittleEndian.Uint32(body))
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

// check demands a scheme, the scales that it needs and no others.
func (s *Sidecar) check() error {
	if err := s.KV.check(); err != nil {
		return err
	}
	option := func(found, wanted string) error {
		return &fault.Error{Err: ErrOption, Where: SidecarPath, Found: found, Wanted: wanted}
	}
	layers := max(len(s.KeyScales), len(s.KScales))
	switch fp8 := s.KV.Format == KVFP8; {
	case fp8 != (len(s.KScales) > 0) || len(s.VScales) != len(s.KScales):
		return option(fmt.Sprintf("a cache in %s with scales of %d and %d layers", s.KV.Format, len(s.KScales), len(s.VScales)), "both with fp8, else none")
	case fp8 && s.KeyScales != nil && len(s.KeyScales) != len(s.KScales):
		return option(fmt.Sprintf("%d layers of key scales, %d of cache scales", len(s.KeyScales), len(s.KScales)), "as many")
	case layers > maxSidecarLayers:
		return option(fmt.Sprintf("%d layers", layers), fmt.Sprintf("at most %d", maxSidecarLayers))
	}
	for layer, scales := range s.KeyScales {
		if len(scales) > maxSidecarChannels {
			return option(fmt.Sprintf("%d key scales in layer %d", len(scales), layer), fmt.Sprintf("at most %d", maxSidecarChannels))
		}
	}
	x := indexOfSidecar(s)
	for i, part := range s.parts() {
		for j, v := range part {
			if !(v >= 0x1p-126 && v <= math.MaxFloat32) {
				return &fault.Error{
					Err: ErrInvalid, Where: fmt.Sprintf("%s %s element %d", SidecarPath, x.tensors()[i].name, j),
					Found: fmt.Sprint(v), Wanted: "a positive number that is normal in FP32",
				}
			}
		}
	}
	return nil
}

// parts lists the scales in the order of the file.
func (s *Sidecar) parts() [][]float32 {
	var parts [][]float32
	for _, scales := range s.KeyScales {
		if len(scales) > 0 {
			parts = append(parts, scales)
		}
	}
	for layer := range s.KScales {
		parts = append(parts, s.KScales[layer:layer+1], s.VScales[layer:layer+1])
	}
	return parts
}

func badSidecar(found, wanted string) error {
	return &fault.Error{
		Err: ErrInvalid, Where: SidecarPath, Found: found, Wanted: wanted,
		Hint: "the file is damaged or none of ours: quantize again",
	}
}
