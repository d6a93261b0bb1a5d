package calibrate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"unicode/utf8"

	"quantize/internal/fault"
)

// ErrInvalid is the sentinel of unusable calibration data, activations or
// statistics files.
var ErrInvalid = errors.New("invalid calibration data")

const (
	maxText = 1 << 30 // bytes of a text file, which is one document
	maxLine = 1 << 26 // bytes of a JSONL line
)

// WithoutMark cuts off the byte order mark that some editors begin a UTF-8 file with: it is
// neither text nor JSON.
func WithoutMark(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\ufeff")) }

// Tokenizer turns text into token ids; special asks for the model's BOS and EOS.
// *tokenizer.Tokenizer is one.
type Tokenizer interface {
	Encode(text string, special bool) ([]int32, error)
}

// Tokens encodes every document of the files, in order, each with its special
// tokens, and joins them. It stops after the document that reaches limit tokens;
// 0 means no limit. Files without a token are ErrInvalid.
func Tokens(t Tokenizer, limit int, files ...string) ([]int32, error) {
	var tokens []int32
	for _, file := range files {
		for text, err := range Documents(file) {
			if err != nil {
				return nil, err
			}
			ids, err := t.Encode(text, true)
			if err != nil {
				return nil, fmt.Errorf("tokenize %s: %w", file, err)
			}
			if tokens = append(tokens, ids...); limit > 0 && len(tokens) >= limit {
				return tokens, nil
			}
		}
	}
	if len(tokens) == 0 {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: strings.Join(files, ", "), Found: "no tokens", Wanted: "text",
			Hint: "give a text file, or .jsonl with a \"text\" field on each line",
		}
	}
	return tokens, nil
}

// Documents yields the texts of a file: of NAME.jsonl the "text" of each line,
// blank lines left out; of any other file its whole content. Text must be
// UTF-8; a byte order mark is not of it. Memory: one document. After an error there is nothing more.
func Documents(file string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := os.Open(file)
		if err != nil {
			yield("", unreadable(file, err))
			return
		}
		defer func() { _ = f.Close() }() // only read
		if strings.HasSuffix(file, ".jsonl") {
			lines(file, f, yield)
			return
		}
		data, err := io.ReadAll(io.LimitReader(f, maxText+1))
		switch {
		case err != nil:
			yield("", unreadable(file, err))
		case len(data) > maxText:
			yield("", &fault.Error{Err: ErrInvalid, Where: file, Found: "more than 1 GiB", Wanted: "at most that much in one document", Hint: "split the file"})
		case !utf8.Valid(data):
			yield("", notUTF8(file))
		default:
			yield(string(WithoutMark(data)), nil)
		}
	}
}

// unreadable is what the file system says of a text file, which it names itself.
func unreadable(file string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	f := &fault.Error{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Where: file, Wanted: "a text file that can be read", Hint: "check the path and who may read it"}
	if st, statErr := os.Stat(file); statErr == nil && st.IsDir() {
		f.Err, f.Found, f.Hint = ErrInvalid, "a directory", "name the files in it"
	}
	return f
}

func lines(file string, r io.Reader, yield func(string, error) bool) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1<<16), maxLine)
	number := 0
	for s.Scan() {
		number++
		line := bytes.TrimSpace(s.Bytes())
		if number == 1 {
			line = WithoutMark(line)
		}
		if len(line) == 0 {
			continue
		}
		text, err := textOf(fmt.Sprintf("%s:%d", file, number), line)
		if !yield(text, err) || err != nil {
			return
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		yield("", &fault.Error{Err: ErrInvalid, Where: fmt.Sprintf("%s:%d", file, number+1), Found: "a line of more than 64 MiB", Wanted: "one JSON object a line"})
	} else if err != nil {
		yield("", unreadable(file, err))
	}
}

func textOf(where string, line []byte) (string, error) {
	if !utf8.Valid(line) {
		return "", notUTF8(where)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return "", &fault.Error{Err: ErrInvalid, Where: where, Found: err.Error(), Wanted: "one JSON object a line"}
	}
	raw, ok := object["text"]
	if !ok {
		return "", &fault.Error{Err: ErrInvalid, Where: where, Found: "no field \"text\"", Wanted: "a string in it"}
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return "", &fault.Error{Err: ErrInvalid, Where: where, Found: fmt.Sprintf("%.40s in field \"text\"", raw), Wanted: "a string"}
	}
	return *text, nil
}

func notUTF8(where string) error {
	return &fault.Error{Err: ErrInvalid, Where: where, Found: "bytes that are not UTF-8", Wanted: "UTF-8 text"}
}
