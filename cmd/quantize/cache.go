package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"quantize/eval"
)

// cacheOptions say where the results of bases are kept.
type cacheOptions struct {
	dir  string // "": the user's cache directory
	off  bool
	size string // as the user wrote it, "0" for none
}

func (o *cacheOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.dir, "cache", "", "directory that keeps what bases gave (default quantize/eval in the user's cache directory)")
	c.Flags().StringVar(&o.size, "cache-size", "4GiB", "what the cache may take; what was used longest ago goes first; 0 keeps nothing")
	c.Flags().BoolVar(&o.off, "no-cache", false, "run the base, and keep nothing of it")
}

// open gives the cache, nil for none. A directory that the user named must be
// there or be made; the default one is used where it can be.
func (o cacheOptions) open(e *env) (*eval.Cache, error) {
	switch {
	case o.off && o.dir != "":
		return nil, &usageError{errors.New("found --cache and --no-cache, wanted one of them")}
	case o.off || o.size == "0":
		return nil, nil
	}
	limit, err := parseSize("--cache-size", o.size)
	if err != nil {
		return nil, err
	}
	dir := o.dir
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, nil //nolint:nilerr // a user without a home has no cache
		}
		dir = filepath.Join(user, "quantize", "eval")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		if o.dir == "" {
			return nil, nil // as without a home
		}
		return nil, outputFault(o.dir, err)
	}
	return &eval.Cache{Dir: dir, Limit: limit, Warn: func(err error) { fmt.Fprintf(e.err, "cache: %v\n", err) }}, nil
}
