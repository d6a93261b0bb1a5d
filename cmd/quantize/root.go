package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"quantize/internal/fault"
)

// env is what every command shares: where it writes, and in which form.
type env struct {
	out, err io.Writer
	output   outputFormat
}

// outputFormat is the value of --output.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
)

// String, Set and Type make outputFormat a flag that refuses other values.
func (f *outputFormat) String() string { return string(*f) }

// Set accepts text and json.
func (f *outputFormat) Set(s string) error {
	if s != string(outputText) && s != string(outputJSON) {
		return errors.New("want text or json")
	}
	*f = outputFormat(s)
	return nil
}

// Type names the value in help texts.
func (f *outputFormat) Type() string { return "text|json" }

func newRootCommand(e *env) *cobra.Command {
	e.output = outputText
	root := &cobra.Command{
		Use:           "quantize",
		Short:         "Post-training quantization of Hugging Face checkpoints, verified and measured",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },

		PersistentPreRunE: requiredFlags,
	}
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.PersistentFlags().Var(&e.output, "output", "form of the result on stdout")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageFault(c, err, "", "")
	})
	root.AddCommand(
		newDemoCommand(e), newRunCommand(e), newEvalCommand(e), newGateCommand(e), newVerifyCommand(e), newConvertCommand(e), newPlanCommand(e), newTestdataCommand(e),
		newInspectCommand(e), newRecipeCommand(e), newKernelsCommand(e), newDoctorCommand(e), newVersionCommand(e),
	)
	for _, c := range root.Commands() {
		c.Long += exitStatus
	}
	return root
}

// print writes a result in one piece: v as JSON, or what text writes. A result that
// did not arrive is no success, so the error of the write is the command's.
func (e *env) print(v any, text func(w io.Writer)) error {
	var b bytes.Buffer
	if e.output == outputText {
		text(&b)
	} else {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return e.write(b.Bytes())
}

// write is how every result gets to stdout.
func (e *env) write(result []byte) error {
	if _, err := e.out.Write(result); err != nil {
		return &fault.Error{
			Err: err, Where: "standard output", Found: "a result that could not be written", Wanted: "a file or pipe that takes all of it",
			Hint: "free space or name another; files that the command writes are complete",
		}
	}
	return nil
}
