package main

import (
	"errors"
	"fmt"
	"io"

	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// deviceNames are what --device takes.
const deviceNames = "auto, cpu or cuda"

// card is a GPU with operands in host memory.
type card interface {
	kernels.Backend
	kernels.Attender
}

// accelerated multiplies INT4 weights by FP8 activations on a card, and attends there in
// the formats it has; all else is the CPU's, in the same arithmetic.
type accelerated struct {
	*cpu.Compute
	card card
}

var _ kernels.PlanCompute = accelerated{}

// QuantLinear implements kernels.Backend.
func (a accelerated) QuantLinear(w packer.Weight, arithmetic packer.Arithmetic, bias []float32) (model.Linear, error) {
	if w.ActivationBits() == 16 || arithmetic == packer.WeightOnly {
		return a.Compute.QuantLinear(w, arithmetic, bias)
	}
	return a.card.QuantLinear(w, arithmetic, bias)
}

// Attention implements kernels.Attender.
func (a accelerated) Attention(dst, lse, q, k, v tensor.Matrix, o kernels.Attention) error {
	err := a.card.Attention(dst, lse, q, k, v, o)
	if errors.Is(err, kernels.ErrUnsupported) {
		return a.Compute.Attention(dst, lse, q, k, v, o)
	}
	return err
}

// device is what --device names; nil: the CPU. The second result ends its use. Where auto
// finds no card to use it takes the CPU and says why on notes.
func device(name string, notes io.Writer) (card, func() error, error) {
	onCPU := func() error { return nil }
	switch name {
	case "", "cpu":
		return nil, onCPU, nil
	case "cuda":
		return openCard()
	case "auto":
		c, closeCard, err := openCard()
		if err != nil {
			fmt.Fprintf(notes, "note: --device auto takes the CPU: %v\n", err)
			return nil, onCPU, nil
		}
		return c, closeCard, nil
	}
	return nil, nil, &usageError{fmt.Errorf("--device: found %q, wanted %s", name, deviceNames)}
}
