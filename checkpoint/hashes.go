package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"runtime"
	"sync"
)

// Hashes gives the sha256, in hex, of the bytes of every tensor. It reads the
// whole checkpoint, in small pieces, on all cores.
func (r *Reader) Hashes(parent context.Context) (map[string]string, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	sums := make(map[string]string, len(r.names))
	var mu sync.Mutex
	names := make(chan string)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for name := range names {
				sum, err := r.hash(ctx, name, buf)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				sums[name] = sum
				mu.Unlock()
			}
		})
	}
feed:
	for _, name := range r.names {
		select {
		case names <- name:
		case <-ctx.Done():
			break feed
		}
	}
	close(names)
	wg.Wait()
	return sums, context.Cause(ctx)
}

func (r *Reader) hash(ctx context.Context, name string, buf []byte) (string, error) {
	sum := sha256.New()
	err := r.copy(ctx, sum, name, buf)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// Copy writes the bytes of a tensor to w in small pieces, and asks ctx before each.
func (r *Reader) Copy(ctx context.Context, w io.Writer, name string) error {
	return r.copy(ctx, w, name, make([]byte, chunk))
}

func (r *Reader) copy(ctx context.Context, w io.Writer, name string, buf []byte) error {
	l, err := r.find(name)
	if err != nil {
		return err
	}
	for at := int64(0); at < l.Bytes(); at += chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(chunk, l.Bytes()-at)]
		if err := r.readAt(l, part, at); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
