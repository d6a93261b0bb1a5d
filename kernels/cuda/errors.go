package cuda

import "errors"

// ErrDevice is the sentinel of a card that is absent, or of a call that failed
// on it. The error's Where names the kernel and the shape.
var ErrDevice = errors.New("CUDA device")
