package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
	"quantize/eval"
)

// defaultCacheSize holds SmolLM2-135M on all of WikiText-2 six times.
const defaultCacheSize = 4 << 30

// cacheOptions say where the results of bases are kept.
type cacheOptions struct {
	dir  string // "": the user's cache directory
	off  bool
	size int64
}

func (o *cacheOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.dir, "cache", "", "directory that keeps what bases gave (default quantize/eval in the user's cache directory)")
	c.Flags().Int64Var(&o.size, "cache-size", defaultCacheSize, "bytes the cache may take; what was used longest ago goes first")
	c.Flags().BoolVar(&o.off, "no-cache", false, "run the base, and keep nothing of it")
}

// open gives the cache, nil for none. A directory that the user named must be
// there or be made; the default one is used where it can be.
func (o cacheOptions) open(e *env) (*eval.Cache, error) {
	switch {
	case o.off && o.dir != "":
		return nil, &usageError{errors.New("found --cache and --no-cache, wanted one of them")}
	case o.off || o.size == 0:
		return nil, nil
	case o.size < 0:
		return nil, &usageError{fmt.Errorf("--cache-size: found %d, wanted a number of bytes", o.size)}
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
		return nil, errors.Join(checkpoint.ErrOutput, err)
	}
	return &eval.Cache{Dir: dir, Limit: o.size, Warn: func(err error) { fmt.Fprintf(e.err, "cache: %v\n", err) }}, nil
}
