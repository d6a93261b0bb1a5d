//go:build cuda

package cuda_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"quantize/kernels"
	"quantize/kernels/cuda"
	"quantize/kernels/kerneltest"
	"quantize/packer"
)

// device is the card of all tests, opened once.
var device = sync.OnceValues(func() (*cuda.Device, error) { return cuda.Open(0) })

func open(t *testing.T) *cuda.Device {
	t.Helper()
	d, err := device()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestChecks(t *testing.T) {
	d := open(t)
	for _, c := range cuda.Checks() {
		t.Run(c.Name, func(t *testing.T) {
			if err := d.Run(c.Run); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKernels(t *testing.T) { kerneltest.Run(t, cuda.NewBackend(open(t))) }

func TestErrorNamesKernelAndShape(t *testing.T) {
	err := open(t).Run(func(s *cuda.Session) error {
		w, err := s.PackOnDevice(&packer.Int4Weight{N: 8, K: 128, GroupSize: 128, Codes: make([]uint32, 128), Scales: make([]uint16, 8)}, packer.Exact, nil)
		if err != nil {
			return err
		}
		x, err := s.NewActivations(4, 128)
		if err != nil {
			return err
		}
		y, err := s.Alloc(64)
		if err != nil {
			return err
		}
		err = s.Multiply(y, w, x, cuda.Config{Tokens: 24, Wide: 1, Deep: 1, Split: 1}, false)
		if !errors.Is(err, kernels.ErrUnsupported) {
			t.Errorf("unknown kernel: %v", err)
		}
		err = s.Multiply(y, w, x, cuda.Config{Tokens: 16, Wide: 1, Deep: 2, Split: 99}, false)
		const want = "kernel decode_m16_w1x2_signed8_g128, M 4, N 8, K 128: CUDA device: found error 912, a kernel launch error has occurred due to cluster misconfiguration"
		if !errors.Is(err, cuda.ErrDevice) || err.Error() != want {
			t.Errorf("impossible cluster: %v, want %s", err, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPinnedMemory(t *testing.T) {
	must(t, open(t).Run(func(s *cuda.Session) error {
		const size = 1 << 20
		host, free, err := s.Pinned(size)
		if err != nil {
			return err
		}
		for i := range host {
			host[i] = byte(i % 251)
		}
		m, err := cuda.AllocOf(s, host)
		if err != nil {
			return err
		}
		back := make([]byte, size)
		if err := cuda.Download(s, back, m); err != nil {
			return err
		}
		if !bytes.Equal(back, host) {
			t.Error("bytes changed on the way to the card and back")
		}
		return errors.Join(free(), s.Free(m))
	}))
}
