package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"quantize/internal/alloc"
	"quantize/internal/fault"
	"quantize/tensor"
)

// typed demands that bad input gives a fault that says where.
func typed(t *testing.T, err error) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || !errors.Is(err, ErrInvalid) || f.Where == "" || f.Found == "" {
		t.Fatalf("not a full fault: %#v", err)
	}
}

// What is accepted lies inside the file without hole or overlap, and written
// again it is the same checkpoint.
func FuzzHeader(f *testing.F) {
	f.Add([]byte(goodA), 8)
	f.Add([]byte(`{"__metadata__":{"format":"pt"},"b":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F8_E5M2","shape":[],"data_offsets":[0,1]}}  `), 1)
	f.Add([]byte(`{"a":{"dtype":"F32","shape":[4611686018427387905,2],"data_offsets":[0,8]}}`), 8)
	f.Add([]byte(`{"a":{"dtype":"U8","shape":[18446744073709551615,0],"data_offsets":[0,0]}}`), 0)
	f.Add([]byte(`{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`), 0)
	f.Add([]byte(`{`), 0)
	f.Fuzz(func(t *testing.T, head []byte, data int) {
		if data < 0 || data > 1<<12 || len(head) > 1<<14 {
			return
		}
		file := shardBytes(string(head), data)
		var h *header
		var err error
		if over := alloc.Check(len(file), func() { h, err = readHeader(bytes.NewReader(file), int64(len(file)), "f") }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			typed(t, err)
			return
		}
		end := int64(8 + len(head))
		var infos []Info
		for _, p := range h.tensors {
			if p.offset != end || p.Bytes() < 0 || p.DType == tensor.Unset {
				t.Fatalf("%+v begins at %d, the one before ends at %d", p, p.offset, end)
			}
			end += p.Bytes()
			if p.Name != "" {
				infos = append(infos, p.Info)
			}
		}
		if end != int64(len(file)) {
			t.Fatalf("tensors end at %d of %d", end, len(file))
		}
		if len(infos) == 0 || len(infos) != len(h.tensors) {
			return
		}
		shards, err := plan(infos, 1<<40, h.metadata)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseHeader(shards[0].head[8:], "f")
		if err != nil {
			t.Fatalf("our own header: %v", err)
		}
		if len(again.tensors) != len(infos) || binary.LittleEndian.Uint64(shards[0].head) != uint64(len(shards[0].head)-8) {
			t.Fatalf("%d tensors became %d", len(infos), len(again.tensors))
		}
		for _, want := range shards[0].tensors {
			found := false
			for _, got := range again.tensors {
				found = found || cmp.Equal(got.Info, want.Info) && got.offset+int64(len(shards[0].head)) == want.offset
			}
			if !found {
				t.Fatalf("%+v is lost", want)
			}
		}
	})
}

// A file of any bytes: the length is not trusted either.
func FuzzShard(f *testing.F) {
	f.Add(shardBytes(goodA, 8))
	f.Add([]byte{0, 0, 0, 0, 0x19, 0, 0, 0, '{'})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		var err error
		if over := alloc.Check(len(file), func() { _, err = readHeader(bytes.NewReader(file), int64(len(file)), "f") }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			typed(t, err)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1.5e9},"weight_map":{"a":"1.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../1.safetensors","a":"C:\\1.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"\u002e\u002e/x.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m map[string]string
		var err error
		if over := alloc.Check(len(data), func() { m, err = parseIndex(data, "f") }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			typed(t, err)
			return
		}
		for name, shard := range m {
			if bytes.ContainsAny([]byte(shard), "/\\\x00:") || shard == "" || shard[0] == '.' && shard[1] == '.' && len(shard) == 2 {
				t.Fatalf("%q is placed in %q", name, shard)
			}
		}
	})
}

// A disk error while the header is read is a fault too.
func TestHeaderReadFails(t *testing.T) {
	t.Parallel()
	_, err := readHeader(errReaderAt{}, 100, "f")
	if !errors.Is(err, ErrInvalid) || !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

type errReaderAt struct{}

func (errReaderAt) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }
