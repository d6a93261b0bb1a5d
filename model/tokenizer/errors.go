package tokenizer

import (
	"errors"
	"fmt"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// Errors of this package; each is wrapped in a [fault.Error] that says where. The first two
// are also a [checkpoint.ErrInvalid], since the tokenizer is one of its files.
var (
	// ErrInvalid marks a tokenizer file that contradicts itself or the format.
	ErrInvalid = fmt.Errorf("invalid tokenizer: %w", checkpoint.ErrInvalid)
	// ErrUnsupported marks a feature of the format that is not implemented.
	ErrUnsupported = fmt.Errorf("tokenizer feature not implemented: %w", checkpoint.ErrInvalid)
	// ErrText marks text that the tokenizer cannot represent.
	ErrText = errors.New("text cannot be tokenized")
)

// invalid builds an ErrInvalid fault.
func invalid(where, found, wanted string) error {
	return &fault.Error{Err: ErrInvalid, Where: where, Found: found, Wanted: wanted}
}

// unsupported builds an ErrUnsupported fault.
func unsupported(where, found, wanted string) error {
	return &fault.Error{Err: ErrUnsupported, Where: where, Found: found, Wanted: wanted}
}

// quote shortens untrusted text for a message.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%.60q... (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
