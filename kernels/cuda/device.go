//go:build cuda

package cuda

import (
	"fmt"
	"runtime"

	"gorgonia.org/cu"

	"quantize/internal/fault"
	"quantize/kernels"
)

// attributes of a device that cu has no names for (cuda.h).
const (
	attributeSharedOptIn = cu.DeviceAttribute(97)
	attributeProcessors  = cu.DeviceAttribute(16)
	attributeL2          = cu.DeviceAttribute(38)
	attributeMajor       = cu.DeviceAttribute(75)
	attributeMinor       = cu.DeviceAttribute(76)
)

// Properties of a card.
type Properties struct {
	Name        string
	Capability  [2]int // 9.0 is Hopper
	Processors  int    // streaming multiprocessors
	MemoryBytes int64
	L2Bytes     int
	SharedBytes int // that a block may have
	DriverCUDA  int // 13000 for CUDA 13.0
}

// Device is a card. One goroutine, locked to its thread, owns the context; what
// runs on the card runs there, in a [Session].
type Device struct {
	work chan func(*Session)
	done chan struct{}
	err  error
	prop Properties
}

// Devices is the number of cards.
func Devices() (int, error) {
	n, err := cu.NumDevices()
	return n, wrap(err, "counting devices")
}

// Open takes a card of compute capability 9.0 into use and loads the kernels.
// Close gives it back.
func Open(ordinal int) (*Device, error) {
	d := &Device{work: make(chan func(*Session)), done: make(chan struct{})}
	ready := make(chan error)
	go d.own(ordinal, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return d, nil
}

// Properties of the card.
func (d *Device) Properties() Properties { return d.prop }

// Run calls f on the goroutine that owns the context and returns its error. f
// must not keep the session. Calls from several goroutines take turns.
func (d *Device) Run(f func(*Session) error) error {
	result := make(chan error, 1)
	d.work <- func(s *Session) { result <- f(s) }
	return <-result
}

// Close frees the context. The device must not be used afterwards.
func (d *Device) Close() error {
	close(d.work)
	<-d.done
	return d.err
}

func (d *Device) own(ordinal int, ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	defer close(d.done)
	s, err := newSession(ordinal)
	if err != nil {
		ready <- err
		return
	}
	d.prop = s.properties
	ready <- nil
	for f := range d.work {
		f(s)
	}
	d.err = s.close()
}

func propertiesOf(dev cu.Device) (Properties, error) {
	p := Properties{DriverCUDA: cu.Version()}
	var err error
	if p.Name, err = dev.Name(); err != nil {
		return p, wrap(err, "reading a device's name")
	}
	if p.MemoryBytes, err = dev.TotalMem(); err != nil {
		return p, wrap(err, "reading a device's memory")
	}
	for attribute, to := range map[cu.DeviceAttribute]*int{
		attributeMajor: &p.Capability[0], attributeMinor: &p.Capability[1], attributeProcessors: &p.Processors,
		attributeL2: &p.L2Bytes, attributeSharedOptIn: &p.SharedBytes,
	} {
		if *to, err = dev.Attribute(attribute); err != nil {
			return p, wrap(err, fmt.Sprintf("reading attribute %d of a device", attribute))
		}
	}
	return p, nil
}

func checkCapability(p Properties) error {
	if p.Capability == [2]int{9, 0} {
		return nil
	}
	return &fault.Error{
		Err: kernels.ErrUnsupported, Where: p.Name, Found: fmt.Sprintf("compute capability %d.%d", p.Capability[0], p.Capability[1]),
		Wanted: "9.0 (H100, H200): the kernels are sm_90a machine code",
	}
}
