package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
	"quantize/packer"
	"quantize/packer/format"
)

func newVerifyCommand(e *env) *cobra.Command {
	base := ""
	c := &cobra.Command{
		Use:   "verify OUT",
		Short: "Check a quantized checkpoint from its bytes",
		Long: `Derive again everything about a quantized checkpoint that can be derived from
its bytes: structure, names and shapes, layers that runtimes merge, codes in
range, scales that reload to themselves, both configuration files, every tensor
and file against its hash in OUT/quantize/manifest.json. With --base also the
rounding error of each layer. All faults are listed. What convert wrote is checked
too, by the rules of its format.`,
		Args: oneArg("OUT, a quantized checkpoint"),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := verify(c.Context(), args[0], base)
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
	c.Flags().StringVar(&base, "base", "", "the checkpoint that OUT was made from")
	return c
}

// verify checks a checkpoint in the format that its configuration names. Where
// even that is unreadable, package packer says so.
func verify(ctx context.Context, dir, base string) (*packer.Verification, error) {
	if base != "" {
		source, err := checkpoint.Open(base)
		if err != nil {
			return nil, err
		}
		defer func() { _ = source.Close() }() // it was only read
		return packer.VerifyAgainst(ctx, dir, source)
	}
	if r, err := checkpoint.Open(dir); err == nil {
		defer func() { _ = r.Close() }() // it was only read
		if method, err := format.Method(r); err == nil && method != "" && method != packer.QuantMethod {
			return format.Verify(ctx, r)
		}
	}
	return packer.Verify(ctx, dir)
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
