package main

import (
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// estimate says what `run` will take: memory from the sizes of what it holds at a
// time, time from the work and the machine's speed.
type estimate struct {
	config  *model.Config
	recipe  *recipe.Recipe
	preview *packer.Preview
	memory  int64 // bound of run's --memory, 0 for none
}

// mapped is what is in memory of the executable: the collector does not count it.
const mapped = 11 << 20

// resident is the program itself with its code tables and small buffers.
const resident = mapped + 13<<18

// reading is a tokenizer, a text of some megabytes and its tokens, of which the heap stays.
const reading = 8 << 20

// late is what a calibration allocates while the collector still marks, where other
// programs have the processors; twice that where it reads hidden states back all the
// time.
const late = 4 << 20

// peakRAM is what is in memory in the worst stage. Rounding reuses its buffers;
// the rest is garbage in the end, of which collectAt lets half of the live size
// stand.
//
//	rounding     three linears in flight as FP32, one as bytes, two as codes: 16 bytes a weight;
//	             the rounded block, until the journal has it
//	transforms   the block that a linear belongs to in float64, and one tensor of it again;
//	             a rotation of the residual stream also a slice of the embedding
//	streaming    one block as stored, or in float64 where it is transformed or GPTQ rounds it,
//	             and as FP32 (twice with target: full-precision), the hidden states of all windows, or
//	             what --memory leaves of them beside two that were read back and their bytes, the
//	             activations of one
//	gptq         all three at once, the rounded block, and the Hessian of one site (and its drift)
//	smoothing    what streaming holds, and the block before, once more in float64: large enough
//	             for the limit of the collector to be felt, which a fifth more keeps to
//	scales       of experts, where they are searched: the Hessians of all downs of a block
func (e *estimate) peakRAM() int64 {
	var largest, block int64
	blocks := map[int]int64{}
	for _, l := range e.preview.Linears {
		n := int64(l.N) * int64(l.K)
		largest = max(largest, n)
		blocks[e.config.LayerOf(l.Name)] += n
	}
	for _, n := range blocks {
		block = max(block, n)
	}
	garbage := func(n int64) int64 { return n + n*collectAt/100 }
	rounding, transforms := 16*largest+e.preview.Rounded/int64(max(e.config.Layers, 1)), int64(0)
	if e.folds() {
		transforms = 8*block + 16*largest
	}
	if e.recipe.Rotation.Residual != recipe.NoTurn {
		transforms += 18 * min(embeddingSlice, int64(e.config.Vocab)*int64(e.config.Hidden))
	}
	if !e.recipe.Calibrated() {
		return resident + rounding + garbage(transforms)
	}
	copies := int64(1)
	if e.fullPrecision() {
		copies = 2
	}
	c, calibrating := e.config, int64(resident+reading+late)
	if e.spills(copies) {
		calibrating += late
	}
	widths := 6*c.Hidden + 3*c.Intermediate + 2*(c.Heads+2*c.KVHeads)*c.HeadDim
	held := int64(2)
	if e.folds() || e.recipe.Weights.Rounding == recipe.GPTQ {
		held = 8
	}
	streaming := held*block + 6*largest + copies*4*block + e.hidden(copies) + 4*e.window()*int64(widths)
	if e.recipe.Smoothing.Method == recipe.AWQ || e.recipe.Smoothing.Search {
		streaming += 8 * int64(c.Experts) * int64(c.ExpertWidth) * int64(c.ExpertWidth)
	}
	smoothing := int64(0)
	if e.recipe.Smoothing.Method != recipe.NoSmoothing {
		smoothing = (streaming + 8*block) * 6 / 5
	}
	if e.recipe.Weights.Rounding != recipe.GPTQ {
		return calibrating + max(rounding+garbage(transforms), garbage(streaming), smoothing)
	}
	k := int64(max(c.Hidden, c.Intermediate, c.Heads*c.HeadDim))
	hessian := 8*k*k + 8*largest
	if e.fullPrecision() {
		hessian += 8 * k * (k + int64(c.Hidden))
	}
	return calibrating + max(rounding+garbage(transforms+streaming+4*block+hessian), smoothing)
}

// hidden is the part of so many copies of the hidden states of all windows that is
// in memory. The copies share the bound.
func (e *estimate) hidden(copies int64) int64 {
	all := e.states(copies)
	if !e.spills(copies) {
		return all
	}
	return min(all, e.memory+copies*4*4*e.window()*int64(e.config.Hidden))
}

// states is the size of so many copies of the hidden states of all windows.
func (e *estimate) states(copies int64) int64 {
	return copies * 4 * e.tokens() * int64(e.config.Hidden)
}

// spills reports whether they go beyond --memory.
func (e *estimate) spills(copies int64) bool { return e.memory > 0 && e.states(copies) > e.memory }

// journal is what resume takes on disk at most: all that is not copied once more,
// and the hidden states of the calibration text between two blocks, which are
// there twice while they are replaced and a third time where --memory spills them.
func (e *estimate) journal() int64 {
	n := e.preview.Rounded
	if e.recipe.Rotation.Residual != recipe.NoTurn {
		n += int64(e.config.Vocab) * int64(e.config.Hidden) * int64(max(e.config.DType.Bytes(), 2))
		n += e.unties()
	}
	if !e.recipe.Calibrated() {
		return n
	}
	streams := int64(1)
	if e.fullPrecision() {
		streams = 2
	}
	if e.recipe.Smoothing.Clip {
		n += 2 * e.preview.Rounded / 16 // an FP32 limit a group
	}
	hidden := 4 * e.tokens() * int64(e.config.Hidden)
	if e.recipe.Rotation.Residual.Calibrated() {
		n += 2 * 8 * int64(e.config.Hidden) * int64(e.config.Hidden)
	}
	return n + 3*streams*hidden
}

// embeddingSlice is how many elements of an embedding are transformed at a time.
const embeddingSlice = 4 << 20

// folds reports that weights are transformed before they are rounded.
func (e *estimate) folds() bool {
	r := e.recipe
	return !r.Rotation.IsZero() || !r.Rope.IsZero() || !r.Smoothing.IsZero()
}

// unties is the size of the head that a rotation makes, 0 for none.
func (e *estimate) unties() int64 {
	if e.recipe.Rotation.Residual == recipe.NoTurn || !e.config.TieEmbeddings {
		return 0
	}
	return int64(e.config.Vocab) * int64(e.config.Hidden) * int64(max(e.config.DType.Bytes(), 2))
}

func (e *estimate) fullPrecision() bool {
	return e.recipe.Weights.Rounding == recipe.GPTQ && e.recipe.Weights.Target == recipe.FullPrecision
}

func (e *estimate) window() int64 {
	return int64(min(e.recipe.Calibration.Window, e.config.MaxPositions))
}

func (e *estimate) tokens() int64 { return int64(e.recipe.Calibration.Samples) * e.window() }
