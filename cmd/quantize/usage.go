package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quantize/internal/fault"
)

// usageError is a command line that cannot be understood.
type usageError struct{ error }

// Unwrap gives the fault, for its parts.
func (e *usageError) Unwrap() error { return e.error }

// usageFault describes what is wrong with the line of a command.
func usageFault(c *cobra.Command, err error, found, wanted string) error {
	where := "command line"
	if c.HasParent() { // every message begins with the program's name
		where = strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
	}
	return &usageError{&fault.Error{Err: err, Where: where, Found: found, Wanted: wanted, Hint: fmt.Sprintf("see `%s --help`", c.CommandPath())}}
}

// requiredFlags is cobra's own check, which runs later and whose error has no parts.
func requiredFlags(c *cobra.Command, _ []string) error {
	var missing, wanted []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if marks := f.Annotations[cobra.BashCompOneRequiredFlag]; len(marks) > 0 && marks[0] == "true" && !f.Changed {
			missing = append(missing, "--"+f.Name)
			wanted = append(wanted, fmt.Sprintf("--%s (%s)", f.Name, strings.TrimSuffix(f.Usage, " (required)")))
		}
	})
	if len(missing) == 0 {
		return nil
	}
	return usageFault(c, nil, "no "+strings.Join(missing, ", no "), strings.Join(wanted, " and "))
}

// noArgs demands no arguments; of a command that has others below it, the first was
// meant to be one of those.
func noArgs(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !c.HasAvailableSubCommands():
		return usageFault(c, nil, strconv.Itoa(len(args))+" arguments", "none")
	}
	c.SuggestionsMinimumDistance = 2 // letters, as cobra has it
	wanted := c.SuggestionsFor(args[0])
	if len(wanted) == 0 {
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				wanted = append(wanted, sub.Name())
			}
		}
	}
	return usageFault(c, errors.New("unknown command"), strconv.Quote(args[0]), strings.Join(wanted, " or "))
}

// oneArg demands exactly one argument, and says which.
func oneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageFault(c, nil, strconv.Itoa(len(args))+" arguments", what)
		}
		return nil
	}
}

// atMostOneArg is oneArg for one that may be left out.
func atMostOneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return oneArg("none or "+what)(c, args)
	}
}
