package checkpoint

import (
	"bytes"
	"context"
	"slices"
)

// Same reports whether two tensors have one dtype, shape and bytes. It reads both in
// small pieces, up to the first difference.
func (r *Reader) Same(ctx context.Context, one, other string) (bool, error) {
	a, err := r.find(one)
	if err != nil {
		return false, err
	}
	b, err := r.find(other)
	if err != nil || a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) {
		return false, err
	}
	x, y := make([]byte, min(chunk, a.Bytes())), make([]byte, min(chunk, a.Bytes()))
	for at := int64(0); at < a.Bytes(); at += chunk {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n := min(chunk, a.Bytes()-at)
		if err := r.readAt(a, x[:n], at); err != nil {
			return false, err
		}
		if err := r.readAt(b, y[:n], at); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}
