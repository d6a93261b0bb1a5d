package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
				sum, err := r.hash(name, buf)
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

func (r *Reader) hash(name string, buf []byte) (string, error) {
	l, err := r.find(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for at := int64(0); at < l.Bytes(); at += chunk {
		part := buf[:min(chunk, l.Bytes()-at)]
		if err := r.readAt(l, part, at); err != nil {
			return "", err
		}
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
