package format

import (
	"errors"
	"fmt"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/packer"
	"quantize/tensor"
)

// ErrRepresent marks a weight that a format cannot hold without rounding it
// again. Nothing is wrong with the weight.
var ErrRepresent = errors.New("cannot be represented")

// Format is the contract of a runtime for the weight of one linear layer.
type Format interface {
	// Name is what the command line calls it: "gptq", "awq", ...
	Name() string
	// Fields lists the tensors that replace P.weight of a linear (N, K).
	Fields(n, k int) []Field
	// Pack gives the bytes of the fields, in their order. A weight that they
	// cannot hold exactly is ErrRepresent, one of another kind too.
	Pack(w packer.Weight) ([]Part, error)
	// Unpack is the inverse of Pack. The parts have sizes and types that the
	// fields allow; contents that mean nothing are [packer.ErrInvalid].
	Unpack(n, k int, parts []Part) (packer.Weight, error)
	// Files gives config.json, made from that of the source, and whatever else
	// says how the checkpoint is quantized, by path.
	Files(source []byte, d Description) (map[string][]byte, error)
}

// Description is what the configuration of a format says beside its parameters.
type Description struct {
	Ignored []string // linears of the blocks that are not quantized
	Routers []string // of experts, which never are
	Head    string   // the output projection, which never is
	FP8KV   bool     // scales of an FP8 cache are stored
	Tool    string   // name and version of this program
}

// Field is a tensor of a packed linear.
type Field struct {
	Suffix   string         // of the module's name, with its dot
	DTypes   []tensor.DType // the first is written, the others are read too
	Shape    []int
	Optional bool
}

// Part is the data of a field; no data where an optional one is absent.
type Part struct {
	DType tensor.DType
	Data  []byte
}

func (p Part) absent() bool { return p.DType == tensor.Unset }

// Tensors lists the tensors that parts make of a module.
func Tensors(f Format, module string, n, k int, parts []Part) []checkpoint.Info {
	var out []checkpoint.Info
	for i, field := range f.Fields(n, k) {
		if !parts[i].absent() {
			out = append(out, checkpoint.Info{Name: module + field.Suffix, DType: parts[i].DType, Shape: field.Shape})
		}
	}
	return out
}

// Holds reports whether the checkpoint has any tensor that only a packed module
// of that name has.
func Holds(f Format, r *checkpoint.Reader, module string) bool {
	return slices.ContainsFunc(f.Fields(256, 256), func(field Field) bool {
		return field.Suffix != ".weight" && r.Has(module+field.Suffix)
	})
}

// Read reads and unpacks the weight (N, K) of a module. Tensors that are missing
// or have another dtype or shape are [packer.ErrInvalid].
func Read(r *checkpoint.Reader, f Format, module string, n, k int) (packer.Weight, error) {
	fields := f.Fields(n, k)
	parts := make([]Part, len(fields))
	for i, field := range fields {
		name := module + field.Suffix
		if field.Optional && !r.Has(name) {
			continue
		}
		info, err := r.Info(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(field.DTypes, info.DType) || !slices.Equal(info.Shape, field.Shape) {
			return nil, &fault.Error{
				Err: packer.ErrInvalid, Where: name, Found: fmt.Sprintf("%v %v", info.DType, info.Shape),
				Wanted: fmt.Sprintf("%v %v", field.DTypes[0], field.Shape),
			}
		}
		parts[i].DType = info.DType
		if parts[i].Data, err = r.Raw(name, nil); err != nil {
			return nil, err
		}
	}
	w, err := f.Unpack(n, k, parts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", module, err)
	}
	return w, nil
}

// refuse makes an ErrRepresent.
func refuse(where, found, wanted, hint string) error {
	return &fault.Error{Err: ErrRepresent, Where: where, Found: found, Wanted: wanted, Hint: hint}
}

// otherKind refuses a weight that is no w of this format.
func otherKind(f Format, w packer.Weight, wanted string) error {
	return refuse(f.Name(), describe(w), wanted, "")
}

// describe names the kind of a weight.
func describe(w packer.Weight) string {
	switch w := w.(type) {
	case *packer.Int4Weight:
		return fmt.Sprintf("INT4, groups of %d, %d-bit activations", w.GroupSize, w.ActivationBits())
	case *GroupedWeight:
		return fmt.Sprintf("INT4, groups of %d", w.GroupSize)
	case *StaticWeight:
		return "INT4 with static FP8 activations"
	case *packer.FP8Weight:
		return "FP8 with a scale per output channel"
	case *FP8TensorWeight:
		return "FP8 with one scale"
	case *FP8BlockWeight:
		return "FP8 in blocks"
	default:
		return fmt.Sprintf("%T", w)
	}
}

func invalid(where, found, wanted string) error {
	return &fault.Error{Err: packer.ErrInvalid, Where: where, Found: found, Wanted: wanted}
}
