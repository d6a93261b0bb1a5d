package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"quantize/packer"
)

func newVerifyCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "verify OUT",
		Short: "Check a quantized checkpoint from its bytes",
		Long: `Derive again everything about a quantized checkpoint that can be derived from
its bytes: structure, names and shapes, codes in range, scales that reload to
themselves, both configuration files, every tensor against its hash in
OUT/quantize/manifest.json. All faults are listed.`,
		Args: oneArg("OUT, a quantized checkpoint"),
		RunE: func(_ *cobra.Command, args []string) error {
			v, err := packer.Verify(args[0])
			if err != nil {
				return err
			}
			if err := e.print(v, func(w io.Writer) { printVerification(w, v) }); err != nil {
				return err
			}
			if !v.OK {
				return fmt.Errorf("%s: %w", args[0], errVerify)
			}
			return nil
		},
	}
}

func printVerification(w io.Writer, v *packer.Verification) {
	for _, c := range v.Checks {
		word := "PASS"
		if !c.OK {
			word = "FAIL"
		}
		fmt.Fprintf(w, "%s  %-12s  %s\n", word, c.Item, c.Detail)
	}
}

// oneArg demands exactly one argument, and says which.
func oneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &usageError{fmt.Errorf("%s: found %d arguments, wanted %s; see `%s --help`", c.CommandPath(), len(args), what, c.CommandPath())}
		}
		return nil
	}
}
