package calibrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"

	"quantize/model"
)

const (
	fileVersion = 2 // 1 had no pairs
	indexKey    = "quantize.statistics"
	hashKey     = "sha256"
)

// fileIndex is what a statistics file holds, without the numbers. The header of
// the file follows from it and the hash, so a reader rebuilds and compares it.
type fileIndex struct {
	Version int               `json:"version"`
	Windows int               `json:"windows"`
	Tokens  int64             `json:"tokens"`
	Meta    map[string]string `json:"meta,omitempty"`
	Sites   []siteIndex       `json:"sites"`
}

type siteIndex struct {
	Layer    int         `json:"layer"`
	Point    model.Point `json:"point"`
	Channels int         `json:"channels"`
	Pairs    int         `json:"pairs,omitempty"`
	Tokens   int64       `json:"tokens"`
	Hessian  bool        `json:"hessian,omitempty"`
}

func indexOf(s *Stats) *fileIndex {
	x := &fileIndex{Version: fileVersion, Windows: s.Windows, Tokens: s.Tokens, Meta: s.Meta, Sites: []siteIndex{}}
	for i := range s.Sites {
		site := &s.Sites[i]
		x.Sites = append(x.Sites, siteIndex{site.Site.Layer, site.Site.Point, site.Channels(), len(site.PairMax), site.Tokens, site.Hessian != nil})
	}
	return x
}

// bytes is the size of the data. With the limits of parseHeader, 2^18 channels
// and a header of 100 MB (fewer than 2^21 sites), it is below 2^63.
func (x *fileIndex) bytes() int64 {
	total := int64(0)
	for _, s := range x.Sites {
		k := int64(s.Channels)
		total += k*(4+8+8+8) + 4*int64(s.Pairs)
		if s.Hessian {
			total += 8 * k * k
		}
	}
	return total
}

// empty allocates the statistics that x describes.
func (x *fileIndex) empty() *Stats {
	s := &Stats{Windows: x.Windows, Tokens: x.Tokens, Meta: x.Meta}
	for _, i := range x.Sites {
		site := newSite(model.Site{Layer: i.Layer, Point: i.Point}, i.Channels, i.Pairs)
		site.Tokens = i.Tokens
		if i.Hessian {
			site.Hessian = &Hessian{K: i.Channels, Data: make([]float64, i.Channels*i.Channels)}
		}
		s.Sites = append(s.Sites, *site)
	}
	return s
}

// hash returns the hash of the file, begun with the index; the data follow.
func (x *fileIndex) hash() (hash.Hash, error) {
	index, err := compactJSON(x)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(index)
	return h, nil
}

// header returns the length and the JSON of the file's header.
func (x *fileIndex) header(sum string) ([]byte, error) {
	index, err := compactJSON(x)
	if err != nil {
		return nil, err
	}
	metadata, err := compactJSON(map[string]string{"format": "pt", indexKey: string(index), hashKey: sum})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	fmt.Fprintf(&b, `{"__metadata__":%s`, metadata)
	at := int64(0)
	for _, s := range x.Sites {
		put := func(name, dtype, shape string, size int64) {
			fmt.Fprintf(&b, `,"layers.%d.%s.%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}`, s.Layer, s.Point, name, dtype, shape, at, at+size)
			at += size
		}
		k, shape := int64(s.Channels), fmt.Sprint(s.Channels)
		put("absmax", "F32", shape, 4*k)
		for _, name := range []string{"sum", "sum_abs", "sum_sq"} {
			put(name, "F64", shape, 8*k)
		}
		if s.Pairs > 0 {
			put("pair_max", "F32", fmt.Sprint(s.Pairs), 4*int64(s.Pairs))
		}
		if s.Hessian {
			put("hessian", "F64", shape+","+shape, 8*k*k)
		}
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

// parseHeader reads index and hash from a header and checks the index.
func parseHeader(head []byte) (*fileIndex, string, error) {
	var object struct {
		Metadata map[string]string `json:"__metadata__"`
	}
	if err := json.Unmarshal(head, &object); err != nil {
		return nil, "", corrupt("a header that is no JSON: "+err.Error(), "a safetensors header")
	}
	text, ok := object.Metadata[indexKey]
	if !ok {
		return nil, "", corrupt("no "+indexKey+" in __metadata__", "a statistics file")
	}
	x := &fileIndex{}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(x); err != nil {
		return nil, "", corrupt(indexKey+": "+err.Error(), "its JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, "", corrupt(indexKey+" with something behind it", "one JSON object")
	}
	if x.Version != fileVersion {
		return nil, "", corrupt(fmt.Sprintf("version %d", x.Version), fmt.Sprintf("version %d", fileVersion))
	}
	for i, s := range x.Sites {
		if s.Layer < 0 || s.Channels < 1 || s.Channels > maxChannels || s.Tokens < 0 || !known(s.Point) {
			return nil, "", corrupt(fmt.Sprintf("site %d: %+v", i, s), "a layer, a known point and 1 to 2^18 channels")
		}
		if s.Pairs < 0 || s.Pairs > s.Channels/2 || s.Pairs > 0 && !rotates(s.Point) {
			return nil, "", corrupt(fmt.Sprintf("site %d: %+v", i, s), "pairs of two channels each, of queries and keys")
		}
		if i > 0 && order(site(x.Sites[i-1]), site(s)) >= 0 {
			return nil, "", corrupt(fmt.Sprintf("site %d out of order", i), "sites by layer and point")
		}
	}
	return x, object.Metadata[hashKey], nil
}

func site(s siteIndex) model.Site { return model.Site{Layer: s.Layer, Point: s.Point} }

// known also knows the points of experts, which ExpertIn and DownIn have.
func known(p model.Point) bool {
	base, expert := p.Expert()
	if expert < 0 {
		return base != model.ExpertIn && slices.Contains(points, base)
	}
	return expert < model.MaxExperts && (base == model.ExpertIn || base == model.DownIn)
}
