package checkpoint

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"quantize/internal/fault"
	"quantize/tensor"
)

// defaultShard is the shard size when the options name none. Small shards make
// a broken download cheap.
const defaultShard = 2 << 30

// planned is a shard before it is written.
type planned struct {
	file    string
	head    []byte   // length and header
	tensors []placed // absolute offsets, in order
	size    int64    // of the file
}

// plan distributes tensors over shards; the order in which they are given does
// not matter. Layers stay together: tensors are taken in natural order of their
// names (layers.2 before layers.10) and a shard is closed before the tensor that
// would take its data above limit. Inside a shard the largest item size comes
// first and then the name, as the reference serializer does, so that all data
// are aligned to their items.
func plan(tensors []Info, limit int64, metadata map[string]string) ([]planned, error) {
	sorted := make([]Info, len(tensors))
	for i, t := range tensors {
		if err := checkInfo(t); err != nil {
			return nil, err
		}
		sorted[i] = t.clone()
	}
	slices.SortFunc(sorted, func(a, b Info) int { return compareNatural(a.Name, b.Name) })
	var groups [][]Info
	used := int64(0)
	for i, t := range sorted {
		if i > 0 && sorted[i-1].Name == t.Name {
			return nil, &fault.Error{Err: ErrInvalid, Where: "tensor " + quote(t.Name), Found: "the name twice", Wanted: "one tensor of each name"}
		}
		if len(groups) == 0 || used > limit-min(limit, t.Bytes()) {
			groups, used = append(groups, nil), 0
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], t)
		used += t.Bytes()
	}
	if len(groups) == 0 {
		return nil, &fault.Error{Err: ErrInvalid, Where: "output", Found: "no tensor", Wanted: "at least one"}
	}
	shards := make([]planned, len(groups))
	for i, g := range groups {
		s := &shards[i]
		s.file = singleFile
		if len(groups) > 1 {
			s.file = fmt.Sprintf("model-%05d-of-%05d%s", i+1, len(groups), shardExt)
		}
		s.layOut(g, metadata)
		if len(s.head)-8 > maxHeader {
			return nil, &fault.Error{
				Err: ErrInvalid, Where: s.file, Found: fmt.Sprintf("a header of %d bytes", len(s.head)-8),
				Wanted: fmt.Sprintf("at most %d", maxHeader), Hint: "choose smaller shards",
			}
		}
	}
	return shards, nil
}

func checkInfo(t Info) error {
	_, ok := size(t.Shape, t.DType.Bytes())
	if t.Name == "" || t.Name == metadataKey || t.DType == tensor.Unset || !ok {
		return &fault.Error{
			Err: ErrInvalid, Where: "tensor " + quote(t.Name), Found: fmt.Sprintf("%v %v", t.DType, t.Shape),
			Wanted: "a name, a dtype and dimensions whose product fits",
		}
	}
	return nil
}

// layOut orders the tensors of a shard and writes its header:
// {"__metadata__":{...},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},...}
// with spaces up to a multiple of 8.
func (s *planned) layOut(tensors []Info, metadata map[string]string) {
	slices.SortFunc(tensors, func(a, b Info) int {
		return cmp.Or(cmp.Compare(b.DType.Bytes(), a.DType.Bytes()), cmp.Compare(a.Name, b.Name))
	})
	buf := append(make([]byte, 8), '{')
	buf = appendString(buf, metadataKey)
	buf = append(buf, ':')
	buf = appendStrings(buf, metadata)
	end := int64(0)
	for _, t := range tensors {
		begin := end
		end += t.Bytes()
		buf = appendString(append(buf, ','), t.Name)
		buf = fmt.Appendf(buf, `:{"dtype":%q,"shape":[`, t.DType)
		for i, d := range t.Shape {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = strconv.AppendInt(buf, int64(d), 10)
		}
		buf = fmt.Appendf(buf, `],"data_offsets":[%d,%d]}`, begin, end)
		s.tensors = append(s.tensors, placed{t, begin})
	}
	buf = append(buf, '}')
	for len(buf)%8 != 0 {
		buf = append(buf, ' ')
	}
	binary.LittleEndian.PutUint64(buf, uint64(len(buf)-8))
	for i := range s.tensors {
		s.tensors[i].offset += int64(len(buf))
	}
	s.head, s.size = buf, int64(len(buf))+end
}

// appendStrings writes a string map as JSON, keys sorted.
func appendStrings(buf []byte, m map[string]string) []byte {
	fields := make([]field, 0, len(m))
	for k, v := range m {
		fields = append(fields, field{k, appendString(nil, v)})
	}
	slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.key, b.key) })
	return append(buf, marshalObject(fields)...)
}

// indexJSON is model.safetensors.index.json as Hugging Face writes it: indented
// by two, keys sorted. total_size counts data, not headers.
func indexJSON(shards []planned) []byte {
	var fields []field
	total := int64(0)
	for _, s := range shards {
		for _, t := range s.tensors {
			fields = append(fields, field{t.Name, appendString(nil, s.file)})
			total += t.Bytes()
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.key, b.key) })
	raw := marshalObject([]field{
		{"metadata", json.RawMessage(fmt.Sprintf(`{"total_size":%d}`, total))},
		{"weight_map", marshalObject(fields)},
	})
	return append(indent(raw), '\n')
}

// compareNatural orders runs of digits by value and all else by bytes; names
// that differ only in leading zeros fall back to bytes.
func compareNatural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		nx, ny := digits(x), digits(y)
		if nx == 0 || ny == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		vx, vy := strings.TrimLeft(x[:nx], "0"), strings.TrimLeft(y[:ny], "0")
		if c := cmp.Or(cmp.Compare(len(vx), len(vy)), cmp.Compare(vx, vy)); c != 0 {
			return c
		}
		x, y = x[nx:], y[ny:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

// digits is the length of the run of digits that s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
