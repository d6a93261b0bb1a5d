package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/kernels/cuda"
	"quantize/packer"
	"quantize/recipe"
)

// The exit codes (docs/exit-codes.md). 2 is left to the Go runtime.
const (
	exitFailed      = 1
	exitGate        = 3
	exitRecipe      = 10
	exitCheckpoint  = 11
	exitDevice      = 12
	exitInterrupted = 130
)

const exitStatus = `

EXIT STATUS
  0    done
  1    failed
  3    accuracy gate failed
  10   recipe invalid
  11   checkpoint invalid
  12   device or kernel not available
  130  interrupted`

// errVerify is a checkpoint that does not pass; its faults were printed.
var errVerify = errors.New("verification failed")

// errGate is an accuracy gate that does not pass; its verdicts were printed.
var errGate = errors.New("accuracy gate failed")

// exitCode maps an error to the exit code that scripts branch on.
func exitCode(ctx context.Context, err error) int {
	var usage *usageError
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())):
		return exitInterrupted
	case errors.As(err, &usage): // whatever it is that the line asks for
		return exitFailed
	case errors.Is(err, errGate):
		return exitGate
	case errors.Is(err, recipe.ErrInvalid), errors.Is(err, recipe.ErrGate), errors.Is(err, packer.ErrOption):
		return exitRecipe
	case errors.Is(err, checkpoint.ErrInvalid), errors.Is(err, errVerify):
		return exitCheckpoint
	case errors.Is(err, kernels.ErrUnsupported), errors.Is(err, cpu.ErrISA), errors.Is(err, cuda.ErrDevice):
		return exitDevice
	default:
		return exitFailed
	}
}

// errorCode is the name of a kind of error in JSON.
func errorCode(code int, err error) string {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return "usage"
	case code == exitGate: // whatever else went wrong
		return "gate_failed"
	case errors.Is(err, checkpoint.ErrOutput):
		return "output"
	case errors.Is(err, calibrate.ErrInvalid):
		return "calibration"
	}
	switch code {
	case exitRecipe:
		return "recipe_invalid"
	case exitCheckpoint:
		return "checkpoint_invalid"
	case exitDevice:
		return "device_unavailable"
	case exitInterrupted:
		return "interrupted"
	default:
		return "failed"
	}
}

// failure is the JSON form of an error.
type failure struct {
	Code    string `json:"code"`
	Exit    int    `json:"exit"`
	Message string `json:"message"`
	Where   string `json:"where"`
	Found   string `json:"found"`
	Wanted  string `json:"wanted"`
	Hint    string `json:"hint"`
}

// fail reports err on stderr and returns the exit code.
func (e *env) fail(ctx context.Context, err error) int {
	code := exitCode(ctx, err)
	if code == exitInterrupted {
		err = interrupted(err)
	}
	if e.output != outputJSON {
		fmt.Fprintf(e.err, "quantize: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return code
	}
	f := failure{Code: errorCode(code, err), Exit: code, Message: err.Error()}
	var bad *fault.Error
	if errors.As(err, &bad) {
		f.Where, f.Found, f.Wanted, f.Hint = bad.Where, bad.Found, bad.Wanted, bad.Hint
	}
	data, jsonErr := json.Marshal(map[string]failure{"error": f})
	if jsonErr != nil {
		panic("quantize: an error does not encode")
	}
	fmt.Fprintf(e.err, "%s\n", data)
	return code
}
