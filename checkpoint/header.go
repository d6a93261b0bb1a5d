package checkpoint

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/nlpodyssey/safetensors"

	"quantize/internal/fault"
	"quantize/tensor"
)

// maxHeader is the largest header that the safetensors format allows.
const maxHeader = 100_000_000

// header is what the head of a shard says.
type header struct {
	metadata map[string]string
	tensors  []placed // in the order of the data
}

// placed is a tensor and where its data begin in the shard file.
type placed struct {
	Info
	offset int64
}

// readHeader reads and checks the header of a shard of the given size. file is
// the name for messages. No more memory is taken than a small multiple of the
// header, whose length is checked first.
func readHeader(r io.ReaderAt, size int64, file string) (*header, error) {
	var head [8]byte
	if size < int64(len(head)) {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: file, Found: fmt.Sprintf("%d bytes", size),
			Wanted: "a safetensors file, at least 8 bytes", Hint: hintDownload,
		}
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, readFault(file, err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeader {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: file, Found: fmt.Sprintf("a header of %d bytes", n),
			Wanted: fmt.Sprintf("at most %d", maxHeader), Hint: "is this a safetensors file?",
		}
	}
	if int64(n) > size-8 {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: file, Found: fmt.Sprintf("a header of %d bytes in a file of %d", n, size),
			Wanted: "the whole header in the file", Hint: hintDownload,
		}
	}
	buf := make([]byte, n)
	if _, err := r.ReadAt(buf, 8); err != nil {
		return nil, readFault(file, err)
	}
	h, err := parseHeader(buf, file)
	if err != nil {
		return nil, err
	}
	return h, h.place(8+int64(n), size, file)
}

// parseHeader decodes the JSON of a header: keys, dtypes, shapes. Offsets are
// relative to the data; [header.place] checks them.
func parseHeader(buf []byte, file string) (*header, error) {
	invalid := func(where, found, wanted string) error {
		return &fault.Error{Err: ErrInvalid, Where: where, Found: found, Wanted: wanted}
	}
	if len(buf) == 0 || buf[0] != '{' || !utf8.Valid(buf) {
		return nil, invalid(file, "a header that is not a UTF-8 JSON object", "one that begins with '{'")
	}
	fields, err := jsonObject(buf)
	if err != nil {
		return nil, invalid(file, "a bad header: "+err.Error(), "a JSON object of tensors")
	}
	// The parser does not know FP8: it is shown U8, which has the same size.
	dtypes := make(map[string]tensor.DType, len(fields))
	rewritten := false
	for i, f := range fields {
		if f.key == metadataKey {
			if _, err := jsonObject(f.value); err != nil {
				return nil, invalid(file, "bad "+metadataKey+": "+err.Error(), "an object of strings")
			}
			continue
		}
		where := tensorIn(f.key, file)
		entry, err := jsonObject(f.value)
		if err != nil {
			return nil, invalid(where, "a bad entry: "+err.Error(), "an object with dtype, shape and data_offsets")
		}
		for j, e := range entry {
			var name string
			if e.key != "dtype" || json.Unmarshal(e.value, &name) != nil {
				continue // the parser says what is wrong
			}
			d, err := tensor.ParseDType(name)
			if err != nil {
				return nil, &fault.Error{
					Err: ErrInvalid, Where: where, Found: "dtype " + quote(name),
					Wanted: "one of " + knownDTypes(), Hint: "convert the tensor to a dtype of this list",
				}
			}
			dtypes[f.key] = d
			if d == tensor.F8E4M3 || d == tensor.F8E5M2 {
				entry[j].value = json.RawMessage(`"U8"`)
				fields[i].value = marshalObject(entry)
				rewritten = true
			}
		}
	}
	if rewritten {
		buf = marshalObject(fields)
	}
	var parsed safetensors.Metadata
	if err := json.Unmarshal(buf, &parsed); err != nil {
		return nil, invalid(file, "a bad header: "+err.Error(), "a safetensors header")
	}
	h := &header{metadata: parsed.Metadata()}
	for name, t := range parsed.Tensors() {
		p := placed{Info: Info{Name: name, DType: dtypes[name], Shape: make([]int, len(t.Shape))}}
		for i, d := range t.Shape {
			if d > math.MaxInt {
				return nil, invalid(tensorIn(name, file), fmt.Sprintf("dimension %d", d), "one below 2^63")
			}
			p.Shape[i] = int(d)
		}
		bytes, ok := size(p.Shape, p.DType.Bytes())
		begin, end := t.DataOffsets[0], t.DataOffsets[1]
		if !ok || begin > end || end > math.MaxInt64 || end-begin != uint64(bytes) {
			return nil, &fault.Error{
				Err: ErrInvalid, Where: tensorIn(name, file),
				Found:  fmt.Sprintf("data_offsets [%d, %d]", begin, end),
				Wanted: fmt.Sprintf("%s bytes for %v %v", product(bytes, ok), p.DType, p.Shape),
			}
		}
		p.offset = int64(begin)
		h.tensors = append(h.tensors, p)
	}
	// Empty tensors share their offset with the next one, so they come first.
	slices.SortFunc(h.tensors, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.Bytes(), b.Bytes()), cmp.Compare(a.Name, b.Name))
	})
	return h, nil
}

// place demands that the data, which begin at start, fill the file without
// hole, overlap or rest, and makes the offsets absolute.
func (h *header) place(start, size int64, file string) error {
	end := int64(0)
	for i := range h.tensors {
		t := &h.tensors[i]
		if t.offset != end {
			what := "a hole"
			if t.offset < end {
				what = "an overlap"
			}
			return &fault.Error{
				Err: ErrInvalid, Where: tensorIn(t.Name, file),
				Found: fmt.Sprintf("%s: data begin at offset %d", what, t.offset), Wanted: fmt.Sprintf("%d, where the tensor before ends", end),
				Hint: "write the file again with a current safetensors library",
			}
		}
		end += t.Bytes() // no overflow: the parser's end fits int64
		t.offset += start
	}
	if end != size-start {
		hint := hintDownload
		if end < size-start {
			hint = "bytes follow the last tensor; write the file again with a current safetensors library"
		}
		return &fault.Error{
			Err: ErrInvalid, Where: file, Found: fmt.Sprintf("%d bytes", size),
			Wanted: fmt.Sprintf("%d bytes of header and %d of tensors", start, end), Hint: hint,
		}
	}
	return nil
}

func product(n int64, ok bool) string {
	if !ok {
		return "fewer than 2^63"
	}
	return fmt.Sprint(n)
}
