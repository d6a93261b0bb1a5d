package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// maxNesting bounds Sequence inside Sequence.
const maxNesting = 8

// fileJSON is the top level of tokenizer.json.
type fileJSON struct {
	Version       string          `json:"version"`
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

// modelJSON is the "model" of type BPE. Other types are refused before this is decoded.
type modelJSON struct {
	Type                    string           `json:"type"`
	Dropout                 *float64         `json:"dropout"`
	UnkToken                *string          `json:"unk_token"`
	ContinuingSubwordPrefix *string          `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string          `json:"end_of_word_suffix"`
	FuseUnk                 bool             `json:"fuse_unk"`
	ByteFallback            bool             `json:"byte_fallback"`
	IgnoreMerges            bool             `json:"ignore_merges"`
	Vocab                   map[string]int64 `json:"vocab"`
	Merges                  mergeList        `json:"merges"`
}

// mergeList reads both spellings of merges: "a b" (before 0.20) and ["a", "b"].
type mergeList [][2]string

// UnmarshalJSON implements [json.Unmarshaler].
func (m *mergeList) UnmarshalJSON(data []byte) error {
	if absent(data) {
		return nil
	}
	if after := bytes.TrimLeft(data, "[ \t\r\n"); len(after) > 0 && after[0] == '"' &&
		bytes.Count(data[:len(data)-len(after)], []byte("[")) == 1 {
		var lines []string
		if err := json.Unmarshal(data, &lines); err != nil {
			return err
		}
		*m = make(mergeList, 0, len(lines))
		for _, line := range lines {
			if strings.HasPrefix(line, "#version") {
				continue
			}
			left, right, ok := strings.Cut(line, " ")
			if !ok || strings.Contains(right, " ") {
				return invalid("model.merges", quote(line), "two tokens with one space between")
			}
			*m = append(*m, [2]string{left, right})
		}
		return nil
	}
	var pairs [][]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	*m = make(mergeList, 0, len(pairs))
	for _, p := range pairs {
		if len(p) != 2 {
			return invalid("model.merges", quote(strings.Join(p, " ")), "two tokens")
		}
		*m = append(*m, [2]string{p[0], p[1]})
	}
	return nil
}

// absent reports a missing or null component.
func absent(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

// kindOf reads the "type" of a component.
func kindOf(raw json.RawMessage, where string) (string, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return "", jsonFault(where, err)
	}
	return head.Type, nil
}

// strict decodes a component and refuses keys it does not know.
func strict(raw []byte, into any, where string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return jsonFault(where, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return invalid(where, "more behind the end of the JSON value", "one value")
	}
	return nil
}

// jsonFault types what encoding/json says; faults of our own pass through.
func jsonFault(where string, err error) error {
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnsupported) {
		return err
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if strings.HasPrefix(text, "unknown field") {
		return unsupported(where, text, "only the keys this package implements")
	}
	return invalid(where, text, "")
}

// pattern is {"String": "..."} or {"Regex": "..."}.
type patternJSON struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}
