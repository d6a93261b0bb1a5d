package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
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
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.PersistentFlags().Var(&e.output, "output", "form of the result on stdout")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
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

// usageError is a command line that cannot be understood.
type usageError struct{ error }

// print writes a result: v as JSON, or what text writes.
func (e *env) print(v any, text func(w io.Writer)) error {
	if e.output == outputText {
		text(e.out)
		return nil
	}
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
