package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"quantize/recipe"
)

func newRecipeCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "recipe",
		Short: "List and print the built-in recipes",
		Long:  "List and print the built-in recipes. A recipe is YAML: print one, edit it, and give the file to `quantize run --recipe`.",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "Name the built-in recipes",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return e.print(recipe.Names(), func(w io.Writer) {
				for _, name := range recipe.Names() {
					fmt.Fprintln(w, name)
				}
			})
		},
	}, &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of a recipe file, for editors",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return e.write(recipe.Schema())
		},
	}, &cobra.Command{
		Use:   "show NAME",
		Short: "Print a built-in recipe, comments included",
		Args:  oneArg("the name of a recipe"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := recipe.Source(args[0])
			if err != nil {
				return err
			}
			r, err := recipe.Load(args[0])
			if err != nil {
				return err
			}
			return e.print(r, func(w io.Writer) { _, _ = w.Write(text) })
		},
	})
	return c
}
