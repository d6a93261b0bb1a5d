//go:build cuda

package cuda

// What gorgonia.org/cu v0.9.6 lacks: function attributes, launches with cluster
// and dependent-launch attributes, stream capture and graphs, pinned memory, and
// the text of an error. Handles of cu are structs of one pointer.

/*
#include <cuda.h>
#include <stdlib.h>

static CUresult set_shared(CUfunction f, int bytes) {
	return cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes);
}

// One by-value argument; cluster blocks along x; dependent: may start before its predecessor in the stream ends.
static CUresult launch(CUfunction f, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared, CUstream stream,
		void *argument, unsigned cluster, int dependent) {
	CUlaunchAttribute attributes[2];
	CUlaunchConfig config = {0};
	config.gridDimX = x, config.gridDimY = y, config.gridDimZ = z;
	config.blockDimX = threads, config.blockDimY = 1, config.blockDimZ = 1;
	config.sharedMemBytes = shared;
	config.hStream = stream;
	config.attrs = attributes;
	if (cluster > 1) {
		CUlaunchAttribute *a = &attributes[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
		a->value.clusterDim.x = cluster, a->value.clusterDim.y = 1, a->value.clusterDim.z = 1;
	}
	if (dependent) {
		CUlaunchAttribute *a = &attributes[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
		a->value.programmaticStreamSerializationAllowed = 1;
	}
	void *arguments[1] = {argument};
	return cuLaunchKernelEx(&config, f, arguments, NULL);
}

static CUresult begin_capture(CUstream stream) { return cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL); }

static CUresult end_capture(CUstream stream, CUgraphExec *exec) {
	CUgraph graph = NULL;
	CUresult r = cuStreamEndCapture(stream, &graph);
	if (r != CUDA_SUCCESS) return r;
	r = cuGraphInstantiateWithFlags(exec, graph, 0);
	cuGraphDestroy(graph);
	return r;
}

static const char *error_text(CUresult r) {
	const char *text = NULL;
	return cuGetErrorString(r, &text) == CUDA_SUCCESS && text ? text : "unknown error";
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"quantize/internal/fault"
)

func handleOfFunction(f cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func handleOfStream(s cu.Stream) C.CUstream       { return C.CUstream(unsafe.Pointer(s.C())) }

// failed turns a result of the driver into an error, nil for success. where
// names the kernel and its shape, or what was being done.
func failed(r C.CUresult, where string) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return &fault.Error{Err: ErrDevice, Where: where, Found: fmt.Sprintf("error %d, %s", int(r), C.GoString(C.error_text(r)))}
}

// wrap gives an error of cu the same form.
func wrap(err error, where string) error {
	if err == nil {
		return nil
	}
	return &fault.Error{Err: ErrDevice, Where: where, Found: err.Error()}
}

// Dim is the extent of a grid in blocks.
type Dim struct{ X, Y, Z int }

// Launch says how a kernel is started.
type Launch struct {
	Grid        Dim
	Threads     int
	SharedBytes int
	Cluster     int  // blocks along x that share memory; 0 or 1 for none
	Dependent   bool // may start before the kernel before it has ended (the kernel waits for it itself)
}

// launchFunction starts f with one by-value argument, a struct without Go
// pointers that has the layout of the kernel's parameter.
func launchFunction[T any](f cu.Function, stream cu.Stream, l Launch, argument *T, where string) error {
	dependent := C.int(0)
	if l.Dependent {
		dependent = 1
	}
	return failed(C.launch(handleOfFunction(f), C.uint(l.Grid.X), C.uint(max(l.Grid.Y, 1)), C.uint(max(l.Grid.Z, 1)), C.uint(l.Threads),
		C.uint(l.SharedBytes), handleOfStream(stream), unsafe.Pointer(argument), C.uint(l.Cluster), dependent), where)
}

// allowShared lets f use that much dynamic shared memory.
func allowShared(f cu.Function, bytes int, where string) error {
	return failed(C.set_shared(handleOfFunction(f), C.int(bytes)), where)
}

// Graph is a captured sequence of launches.
type Graph struct{ exec C.CUgraphExec }

func beginCapture(s cu.Stream) error {
	return failed(C.begin_capture(handleOfStream(s)), "stream capture")
}

func endCapture(s cu.Stream) (*Graph, error) {
	g := new(Graph)
	if err := failed(C.end_capture(handleOfStream(s), &g.exec), "instantiating a graph"); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Graph) launch(s cu.Stream) error {
	return failed(C.cuGraphLaunch(g.exec, handleOfStream(s)), "launching a graph")
}

func (g *Graph) destroy() error { return failed(C.cuGraphExecDestroy(g.exec), "destroying a graph") }

// allocPinned returns page-locked host memory, which the copy engine reaches directly.
func allocPinned(bytes int) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	err := failed(C.cuMemHostAlloc(&p, C.size_t(bytes), 0), fmt.Sprintf("allocating %d bytes of pinned memory", bytes))
	return p, err
}

func freePinned(p unsafe.Pointer) error { return failed(C.cuMemFreeHost(p), "freeing pinned memory") }

// synchronize waits for the stream and reports what went wrong in it.
func synchronize(s cu.Stream, where string) error {
	return failed(C.cuStreamSynchronize(handleOfStream(s)), where)
}
