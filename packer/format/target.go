package format

import (
	"fmt"
	"strings"

	"quantize/internal/fault"
	"quantize/packer"
)

// Targets are the formats that [Convert] writes.
var Targets = []string{"gptq", "awq", "modelopt", "fp8-block", packer.QuantMethod}

// target gives the format called name for the weights of f, or refuses with the
// reason that holds for the whole checkpoint.
func target(name string, f Format) (Format, error) {
	if f.Name() == name {
		return nil, &fault.Error{Err: packer.ErrOption, Where: "format", Found: name, Wanted: "another than the checkpoint's own"}
	}
	int4, static, rows, blocked := kind(f)
	no := func(wanted string) error { return refuse(name, summary(f), wanted, "") }
	switch name {
	case "gptq":
		if int4 == 0 {
			return nil, no("INT4 weights")
		}
		return GPTQ{GroupSize: int4}, fit(GPTQ{}, 8, int4, int4)
	case "awq":
		if int4 == 0 {
			return nil, no("INT4 weights")
		}
		return AWQ{GroupSize: int4}, fit(AWQ{}, 8, int4, int4)
	case "modelopt":
		switch {
		case rows:
			return FP8Rows{}, nil
		case !static:
			return nil, refuse(name, summary(f), "INT4 with FP8 activations (W4A8_FP8), or FP8 with a scale per output channel", "quantize the model again with such a scheme")
		case int4 != 128:
			return nil, refuse(name, summary(f), "groups of 128", "")
		}
		return W4A8AWQ{}, nil
	case "fp8-block":
		if !blocked {
			return nil, no("FP8 in blocks of 128 x 128")
		}
		return FP8Block{}, nil
	case packer.QuantMethod:
		switch {
		case rows:
			return Compressed{Scheme: packer.FP8}, nil
		case blocked:
			return Compressed{}, nil
		case static:
			return Compressed{packer.W4A8, int4}, nil
		case int4 != 0:
			return Compressed{packer.W4A16, int4}, nil
		}
		return nil, no("INT4 groups, FP8 with a scale per output channel or FP8 in blocks")
	}
	return nil, &fault.Error{Err: packer.ErrOption, Where: "format", Found: fmt.Sprintf("%q", name), Wanted: strings.Join(Targets, ", ")}
}

// kind says what the weights of a format are: the group size of INT4 ones, and
// whether their activations are rounded to FP8; FP8 with scales of rows, or of
// blocks.
func kind(f Format) (int4 int, fp8Activations, rows, blocked bool) {
	switch f := f.(type) {
	case GPTQ:
		int4 = f.GroupSize
	case AWQ:
		int4 = f.GroupSize
	case W4A8AWQ:
		return 128, true, false, false
	case Compressed:
		if f.int4() {
			return f.GroupSize, f.Scheme == packer.W4A8, false, false
		}
		return 0, false, f.Scheme == packer.FP8, f.Scheme == 0
	case FP8Rows:
		rows = true
	case FP8Block:
		blocked = true
	}
	return int4, false, rows, blocked
}

// summary describes what a checkpoint of format f holds.
func summary(f Format) string {
	switch int4, fp8, rows, blocked := kind(f); {
	case int4 != 0 && fp8:
		return fmt.Sprintf("INT4 in groups of %d with FP8 activations", int4)
	case int4 != 0:
		return fmt.Sprintf("weight-only INT4 in groups of %d", int4)
	case rows:
		return "FP8 with a scale per output channel"
	case blocked:
		return "FP8 in blocks"
	default:
		return "FP8 with one scale a weight"
	}
}

// scheme is what the manifest of a checkpoint in format f declares.
func scheme(f Format) packer.Scheme {
	switch int4, fp8, _, _ := kind(f); {
	case int4 != 0 && fp8:
		return packer.W4A8
	case int4 != 0:
		return packer.W4A16
	default:
		return packer.FP8
	}
}
