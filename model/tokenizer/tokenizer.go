package tokenizer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// maxFile bounds tokenizer.json; the largest in use are about 35 MB.
const maxFile = 256 << 20

const (
	fileName   = "tokenizer.json"
	configName = "tokenizer_config.json"
)

// Tokenizer turns text into ids and back. It is immutable and safe for
// concurrent use.
type Tokenizer struct {
	normalizer normalizer // nil for none
	steps      []step
	model      *bpe
	added      *addedTokens
	template   template
	decoder    decoder // nil for none
	tokens     []string
	known      []bool // false in gaps of the ids
	ids        map[string]int32
	encoders   sync.Pool
}

// Load reads dir/tokenizer.json and, if it is there, dir/tokenizer_config.json: regular
// files, and none outside dir, as a checkpoint's config.json. Errors are [ErrInvalid],
// [ErrUnsupported] or, of reading the files, [checkpoint.ErrInvalid].
func Load(dir string) (*Tokenizer, error) {
	file, err := checkpoint.ReadFile(dir, fileName, maxFile)
	switch path := filepath.Join(dir, fileName); {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !there(path):
		return nil, &fault.Error{
			Err: fmt.Errorf("%w: %w", ErrInvalid, fs.ErrNotExist), Where: dir, Found: "no " + fileName, Wanted: "one",
			Hint: "save it with transformers' AutoTokenizer.save_pretrained; tokenizer.model alone is not read",
		}
	default:
		return nil, err
	}
	config, err := checkpoint.ReadFile(dir, configName, maxFile)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || there(filepath.Join(dir, configName))) {
		return nil, err
	}
	t, err := Parse(file, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, fileName), err)
	}
	return t, nil
}

// there reports whether a directory has the name, a link to nothing included.
func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Parse builds a tokenizer from the contents of tokenizer.json and of
// tokenizer_config.json, which may be nil.
func Parse(tokenizerJSON, tokenizerConfig []byte) (*Tokenizer, error) {
	if len(tokenizerJSON) > maxFile {
		return nil, invalid("tokenizer.json", "more than 256 MiB", "a smaller file")
	}
	var j fileJSON
	if err := strict(tokenizerJSON, &j, "tokenizer.json"); err != nil {
		return nil, err
	}
	if j.Version != "" && j.Version != "1.0" {
		return nil, unsupported("version", quote(j.Version), "1.0")
	}
	t := new(Tokenizer)
	var err error
	if t.normalizer, err = parseNormalizer(j.Normalizer, "normalizer", 0); err != nil {
		return nil, err
	}
	var byteLevel bool
	if t.steps, byteLevel, err = parsePreTokenizer(j.PreTokenizer); err != nil {
		return nil, err
	}
	if t.decoder, err = parseDecoder(j.Decoder, "decoder", 0); err != nil {
		return nil, err
	}
	if t.template, err = parsePostProcessor(j.PostProcessor, "post_processor", 0); err != nil {
		return nil, err
	}
	var vocab map[string]int64
	if t.model, vocab, err = parseModel(j.Model, byteLevel); err != nil {
		return nil, err
	}
	if t.added, err = newAddedTokens(j.AddedTokens, t.model, vocab, t.normalizer); err != nil {
		return nil, err
	}
	t.name(vocab)
	if absent(j.PostProcessor) {
		if t.template, err = configTemplate(tokenizerConfig, t.ID); err != nil {
			return nil, err
		}
	}
	if err := t.template.check(len(t.tokens)); err != nil {
		return nil, err
	}
	t.encoders.New = func() any { return newEncoder(t) }
	return t, nil
}

// name builds the tables of ids and tokens, added ones included.
func (t *Tokenizer) name(vocab map[string]int64) {
	size := len(t.model.tokens)
	for _, a := range t.added.list {
		size = max(size, int(a.ID)+1)
	}
	t.tokens = make([]string, size)
	t.known = make([]bool, size)
	t.ids = make(map[string]int32, len(vocab)+len(t.added.list))
	copy(t.tokens, t.model.tokens)
	for token, id := range vocab {
		t.known[id] = true
		t.ids[token] = int32(id)
	}
	for _, a := range t.added.list {
		t.tokens[a.ID], t.known[a.ID] = a.name, true
		t.ids[a.Content] = int32(a.ID)
	}
}

// VocabSize is one more than the largest id. A checkpoint's embedding may have
// more rows (padding) but not fewer.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID gives the id of a token by its spelling in tokenizer.json.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// Encode gives the ids of text. Added tokens, such as "<|im_start|>", are
// recognised inside text. With special, the ids the post-processor puts round a
// text (BOS, EOS) are added. Bytes that are not UTF-8 count as U+FFFD.
//
// Errors are [ErrText]: a character has no token and the model no unknown
// token, or a pattern of the file took too long.
func (t *Tokenizer) Encode(text string, special bool) ([]int32, error) {
	e := t.encoders.Get().(*encoder)
	defer t.encoders.Put(e)
	text = valid(text)
	e.out = make([]int32, 0, len(text)/3+8)
	if special {
		e.out = append(e.out, t.template.before...)
	}
	err := t.added.split(&t.added.raw, text, func(id int32, start, end int) error {
		if id >= 0 {
			e.out = append(e.out, id)
			return nil
		}
		return t.segment(e, text[start:end], start == 0)
	})
	if special {
		e.out = append(e.out, t.template.after...)
	}
	out := e.out
	e.out = nil
	if err != nil {
		return nil, err
	}
	return out, nil
}

// segment encodes text between added tokens.
func (t *Tokenizer) segment(e *encoder, text string, start bool) error {
	if t.normalizer != nil {
		var err error
		if text, err = t.normalizer.normalize(text); err != nil {
			return err
		}
	}
	return t.added.split(&t.added.normalized, text, func(id int32, from, to int) error {
		if id >= 0 {
			e.out = append(e.out, id)
			return nil
		}
		return e.yields[0](piece{text[from:to], start && from == 0})
	})
}

// newEncoder links the pre-tokenizers: each hands its pieces to the next, the
// last to the model.
func newEncoder(t *Tokenizer) *encoder {
	e := &encoder{model: t.model, cache: make(map[string]cached)}
	e.yields = make([]func(piece) error, len(t.steps)+1)
	e.yields[len(t.steps)] = func(p piece) (err error) {
		e.out, err = e.word(e.out, p.text)
		return err
	}
	for i, s := range t.steps {
		e.yields[i] = func(p piece) error { return s.split(p, e.yields[i+1]) }
	}
	return e
}

// Decode gives the text of ids, special tokens included. Unknown ids are left
// out. For byte-level tokenizers it undoes Encode of valid UTF-8, up to what
// the normalizer changed and blanks that added tokens took.
func (t *Tokenizer) Decode(ids []int32) string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		if id >= 0 && int(id) < len(t.tokens) && t.known[id] {
			list = append(list, t.tokens[id])
		}
	}
	if t.decoder == nil {
		return strings.Join(list, " ")
	}
	return strings.Join(t.decoder.decode(list), "")
}
