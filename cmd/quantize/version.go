package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

// version is part of the manifest, and so of the bytes of every output: it
// changes when the same inputs may give other bytes.
const version = "0.1.0"

const tool = "quantize " + version

func newVersionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version of the program and of Go.",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return e.print(v, func(w io.Writer) { fmt.Fprintf(w, "%s (%s, %s)\n", tool, v["go"], v["platform"]) })
		},
	}
}
