package tensor

import "fmt"

// DType is an element type; the names are those of the safetensors format.
type DType uint8

// The zero value is no type. F8E4M3 is the "fn" variant: no infinity,
// NaN 0x7F/0xFF, largest value 448.
const (
	Unset DType = iota
	Bool
	U8
	I8
	F8E4M3
	F8E5M2
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	F64
	I64
	U64
)

var dtypes = [...]struct {
	name  string
	bytes int
}{
	Unset: {"unset", 0}, Bool: {"BOOL", 1}, U8: {"U8", 1}, I8: {"I8", 1},
	F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1},
	I16: {"I16", 2}, U16: {"U16", 2}, F16: {"F16", 2}, BF16: {"BF16", 2},
	I32: {"I32", 4}, U32: {"U32", 4}, F32: {"F32", 4},
	F64: {"F64", 8}, I64: {"I64", 8}, U64: {"U64", 8},
}

// Bytes returns the size of one element, 0 for Unset.
func (d DType) Bytes() int { return dtypes[d].bytes }

// String returns the safetensors name.
func (d DType) String() string { return dtypes[d].name }

// IsFloat reports whether d is a floating-point type.
func (d DType) IsFloat() bool {
	switch d {
	case F8E4M3, F8E5M2, F16, BF16, F32, F64:
		return true
	default:
		return false
	}
}

// ParseDType returns the type with the given safetensors name.
func ParseDType(name string) (DType, error) {
	for d, t := range dtypes {
		if d != int(Unset) && t.name == name {
			return DType(d), nil
		}
	}
	return Unset, fmt.Errorf("unknown dtype %q", name)
}
