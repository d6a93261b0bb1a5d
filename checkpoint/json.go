package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const metadataKey = "__metadata__"

// field is one member of a JSON object.
type field struct {
	key   string
	value json.RawMessage
}

// jsonObject splits an object into its members, in their order. Unlike
// encoding/json it refuses a key that occurs twice: two readers of such a file
// may see two different checkpoints.
func jsonObject(data []byte) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	} else if t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var fields []field
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		f := field{key: t.(string)} // the decoder admits only strings as keys
		if seen[f.key] {
			return nil, fmt.Errorf("%s occurs twice", quote(f.key))
		}
		seen[f.key] = true
		if err := dec.Decode(&f.value); err != nil {
			return nil, jsonError(err)
		}
		fields = append(fields, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// marshalObject writes the members in their order.
func marshalObject(fields []field) []byte {
	buf := []byte{'{'}
	for i, f := range fields {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendString(buf, f.key)
		buf = append(buf, ':')
		buf = append(buf, f.value...)
	}
	return append(buf, '}')
}

// appendString writes s as JSON, with '<', '>' and '&' as they are.
func appendString(buf []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("checkpoint: a string does not encode")
	}
	return append(buf, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
}

// indent lays out valid JSON with two spaces a level.
func indent(data []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		panic("checkpoint: our own JSON is not valid")
	}
	return b.Bytes()
}
