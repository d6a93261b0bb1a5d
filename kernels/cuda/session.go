//go:build cuda

package cuda

import (
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"gorgonia.org/cu"
)

//go:embed cubin/*.cubin
var cubins embed.FS

// Session is a card as the goroutine that owns its context sees it. Its methods
// work in one stream, in order.
type Session struct {
	device     cu.Device
	context    cu.CUContext
	stream     cu.Stream
	properties Properties
	manifest   Manifest
	modules    []cu.Module
	functions  map[string]cu.Function
}

func newSession(ordinal int) (*Session, error) {
	s := &Session{manifest: BuiltKernels(), functions: map[string]cu.Function{}}
	var err error
	if s.device, err = cu.GetDevice(ordinal); err != nil {
		return nil, wrap(err, fmt.Sprintf("device %d", ordinal))
	}
	if s.properties, err = propertiesOf(s.device); err != nil {
		return nil, err
	}
	if err := checkCapability(s.properties); err != nil {
		return nil, err
	}
	if s.context, err = s.device.RetainPrimaryCtx(); err != nil {
		return nil, wrap(err, "retaining the primary context")
	}
	if err := cu.SetCurrentContext(s.context); err != nil {
		return nil, wrap(err, "making the context current")
	}
	if s.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return nil, wrap(err, "making a stream")
	}
	for _, c := range s.manifest.Cubins {
		if err := s.load(c); err != nil {
			return nil, err
		}
	}
	return s, errors.Join(s.allowPrefill(), s.allowCached())
}

// load makes the kernels of a cubin known.
func (s *Session) load(c Cubin) error {
	image, err := cubins.ReadFile("cubin/" + c.File)
	if err != nil {
		return err
	}
	module, err := cu.LoadData(string(image))
	if err != nil {
		return wrap(err, fmt.Sprintf("loading %s (CUDA %s) with a driver for CUDA %d", c.File, s.manifest.Toolkit, s.properties.DriverCUDA))
	}
	s.modules = append(s.modules, module)
	for _, k := range c.Kernels {
		f, err := module.Function(k.Name)
		if err != nil {
			return wrap(err, "kernel "+k.Name)
		}
		if k.SharedBytes > 0 {
			if err := allowShared(f, max(k.SharedBytes, aloneBytes), "kernel "+k.Name); err != nil {
				return err
			}
		}
		if strings.HasPrefix(k.Name, "kvdecode_") {
			if err := allowShared(f, kvSharedBytes, "kernel "+k.Name); err != nil {
				return err
			}
		}
		s.functions[k.Name] = f
	}
	return nil
}

func (s *Session) close() error {
	for _, m := range s.modules {
		if err := m.Unload(); err != nil {
			return wrap(err, "unloading a module")
		}
	}
	if err := s.stream.Destroy(); err != nil {
		return wrap(err, "destroying the stream")
	}
	return wrap(s.device.ReleasePrimaryCtx(), "releasing the context")
}

// Memory is a piece of the card's memory.
type Memory struct {
	Address uint64
	Bytes   int
}

// slice is the part from byte `from` on, of the given size.
func (m Memory) slice(from, bytes int) Memory {
	if from < 0 || bytes < 0 || from+bytes > m.Bytes {
		panic("cuda: slice beyond device memory")
	}
	return Memory{Address: m.Address + uint64(from), Bytes: bytes}
}

// Alloc returns memory of that size, with undefined contents; it must be freed.
func (s *Session) Alloc(bytes int) (Memory, error) {
	p, err := cu.MemAlloc(int64(max(bytes, 1)))
	if err != nil {
		return Memory{}, wrap(err, fmt.Sprintf("allocating %d bytes", bytes))
	}
	return Memory{Address: uint64(p), Bytes: bytes}, nil
}

// Free gives memory of Alloc back; the zero Memory may be freed.
func (s *Session) Free(m Memory) error {
	if m.Address == 0 {
		return nil
	}
	return wrap(cu.MemFree(cu.DevicePtr(m.Address)), fmt.Sprintf("freeing %d bytes", m.Bytes))
}

// Upload copies data into m, from its beginning.
func Upload[T any](s *Session, m Memory, data []T) error {
	bytes := len(data) * int(unsafe.Sizeof(*new(T)))
	if bytes > m.Bytes {
		panic("cuda: upload beyond device memory")
	}
	if bytes == 0 {
		return nil
	}
	err := cu.MemcpyHtoDAsync(cu.DevicePtr(m.Address), unsafe.Pointer(&data[0]), int64(bytes), s.stream)
	if err != nil {
		return wrap(err, fmt.Sprintf("copying %d bytes to the device", bytes))
	}
	return s.Wait("copying to the device")
}

// AllocOf allocates memory for data and uploads it.
func AllocOf[T any](s *Session, data []T) (Memory, error) {
	m, err := s.Alloc(len(data) * int(unsafe.Sizeof(*new(T))))
	if err != nil {
		return m, err
	}
	return m, Upload(s, m, data)
}

// Download copies from the beginning of m into data.
func Download[T any](s *Session, data []T, m Memory) error {
	bytes := len(data) * int(unsafe.Sizeof(*new(T)))
	if bytes > m.Bytes {
		panic("cuda: download beyond device memory")
	}
	if bytes == 0 {
		return nil
	}
	err := cu.MemcpyDtoHAsync(unsafe.Pointer(&data[0]), cu.DevicePtr(m.Address), int64(bytes), s.stream)
	if err != nil {
		return wrap(err, fmt.Sprintf("copying %d bytes from the device", bytes))
	}
	return s.Wait("copying from the device")
}

// Pinned returns page-locked host memory of that size, from which Upload and into
// which Download run at the speed of the bus, and the function that frees it.
func (s *Session) Pinned(bytes int) (data []byte, free func() error, err error) {
	p, err := allocPinned(bytes)
	if err != nil {
		return nil, nil, err
	}
	return unsafe.Slice((*byte)(p), bytes), func() error { return freePinned(p) }, nil
}

// Fill sets every byte of m.
func (s *Session) Fill(m Memory, value byte) error {
	if m.Bytes == 0 {
		return nil
	}
	return wrap(cu.MemsetD8Async(cu.DevicePtr(m.Address), value, int64(m.Bytes), s.stream), "filling device memory")
}

// Wait waits for everything started so far; an error of a kernel shows here at
// the latest. where says what was being done.
func (s *Session) Wait(where string) error { return synchronize(s.stream, where) }

// launch starts a kernel of the manifest; argument mirrors its parameter.
func launch[T any](s *Session, kernel string, l Launch, argument *T, where string) error {
	f, ok := s.functions[kernel]
	if !ok {
		panic("cuda: no kernel " + kernel)
	}
	return launchFunction(f, s.stream, l, argument, "kernel "+kernel+", "+where)
}

// Capture records what f starts, without running it.
func (s *Session) Capture(f func() error) (*Graph, error) {
	if err := beginCapture(s.stream); err != nil {
		return nil, err
	}
	err := f()
	g, endErr := endCapture(s.stream)
	if err != nil {
		return nil, err
	}
	return g, endErr
}

// Replay starts a graph.
func (s *Session) Replay(g *Graph) error { return g.launch(s.stream) }

// Time measures what f starts, between two events.
func (s *Session) Time(f func() error) (time.Duration, error) {
	start, err := cu.MakeEvent(cu.DefaultEvent)
	if err != nil {
		return 0, wrap(err, "making an event")
	}
	end, err := cu.MakeEvent(cu.DefaultEvent)
	if err != nil {
		return 0, wrap(err, "making an event")
	}
	defer func() { _, _ = cu.DestroyEvent(&start), cu.DestroyEvent(&end) }()
	if err := start.Record(s.stream); err != nil {
		return 0, wrap(err, "recording an event")
	}
	if err := f(); err != nil {
		return 0, err
	}
	if err := end.Record(s.stream); err != nil {
		return 0, wrap(err, "recording an event")
	}
	if err := s.Wait("timing"); err != nil {
		return 0, err
	}
	ms, err := start.Elapsed(end)
	return time.Duration(ms * float64(time.Millisecond)), wrap(err, "reading an event")
}
