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
and file against its hash in OUT/quantize/manifest.json. With --base also every
tensor of BASE against the hash that the manifest has of it, whatever the recipe
made of it, and the rounding error of each layer that was not transformed before.
Without --base nothing is said of BASE. All faults are listed. What convert wrote is
checked too, by the rules of its format.`,
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
	var source *checkpoint.Reader
	if base != "" {
		var err error
		if source, err = checkpoint.Open(base); err != nil {
			return nil, err
		}
		defer func() { _ = source.Close() }() // it was only read
	}
	if r, err := checkpoint.Open(dir); err == nil {
		defer func() { _ = r.Close() }() // it was only read
		if method, err := format.Method(r); err == nil && method != "" && method != packer.QuantMethod || format.InBlocks(r) {
			return format.Verify(ctx, r, source)
		}
	}
	return packer.VerifyAgainst(ctx, dir, source)
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
