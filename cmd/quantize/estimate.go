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

// seconds adds the work of all stages.
func (e *estimate) seconds(m machine) float64 {
	var weights int64
	for _, l := range e.preview.Linears {
		weights += int64(l.N) * int64(l.K)
	}
	hashed := float64(e.preview.BytesIn + e.preview.BytesOut)
	total := float64(weights)/m.Rounding + hashed/m.Hashing/float64(m.Cores)
	if !e.recipe.Calibrated() {
		return total
	}
	return total + e.flops(weights)/m.GFLOPS/1e9
}

// wide is how many operations of the FP32 product one operation of the plain
// float64 loops costs, which factor Hessians and solve with them.
const wide = 10

// flops is the work of the passes over the calibration text, in operations of the
// FP32 product: 2 a weight and token, and for each site K² a token for its Hessian.
// GPTQ adds K³ wide ones a site for its factor and N·K² a linear for its own sweep;
// target: full-precision a product a linear and the solution of the drift, 2·K² wide
// ones a row of it: K rows a site, or the N rows of linears that write the stream.
func (e *estimate) flops(weights int64) float64 {
	tokens := float64(e.tokens())
	total := float64(e.passes()) * 2 * (float64(weights) - e.idle()) * tokens
	gptq := e.recipe.Weights.Rounding == recipe.GPTQ
	hessians := gptq || e.recipe.Smoothing.Method == recipe.AWQ || e.recipe.Smoothing.Search
	seen := map[model.Site]bool{}
	for _, t := range model.Tensors(e.config) {
		if t.Kind != model.KindLinear || !hessians {
			continue
		}
		n, k := float64(t.Shape[0]), float64(t.Shape[1])
		tokens := tokens * e.share(t.Role)
		if site := (model.Site{Layer: t.Layer, Point: t.Input()}); !seen[site] {
			seen[site] = true
			total += k * k * tokens
			if gptq {
				total += wide * k * k * k
			}
			if e.fullPrecision() {
				rows := k
				if t.Role == model.RoleO || t.Role == model.RoleDown { // not of experts
					rows = n
				}
				total += 2*k*k*tokens + 2*wide*rows*k*k
			}
		}
		if gptq {
			total += n * k * k
		}
		if e.fullPrecision() {
			total += 2 * n * k * k
		}
	}
	return total
}

// share is the part of all tokens that a linear sees.
func (e *estimate) share(r model.Role) float64 {
	if r < model.RoleExpertGate {
		return 1
	}
	return float64(e.config.ExpertsPerToken) / float64(e.config.Experts)
}

// idle is how many weights the average token passes by.
func (e *estimate) idle() float64 {
	total := 0.0
	for _, t := range model.Tensors(e.config) {
		if t.Kind == model.KindLinear {
			total += (1 - e.share(t.Role)) * float64(t.Shape[0]) * float64(t.Shape[1])
		}
	}
	return total
}

// passes counts the forward passes over the calibration text. GPTQ goes through
// each block once to the input of each site and once to its end, which is about two.
func (e *estimate) passes() int {
	r, n := e.recipe, 0
	if r.Rotation.Residual.Calibrated() || r.Rotation.Values.Calibrated() {
		n++
	}
	if r.Rope.Method != recipe.NoRope || r.Rope.TopK > 0 || r.KV.Format == recipe.KVFP8 || r.Smoothing.Method == recipe.SmoothQuant || r.Smoothing.Method == recipe.AWQ || r.Smoothing.Search {
		n++
	}
	switch {
	case r.Weights.Rounding == recipe.GPTQ && e.fullPrecision():
		n += 4
	case r.Weights.Rounding == recipe.GPTQ:
		n += 2
	case r.Weights.Importance == recipe.Activations:
		n++
	}
	return n
}

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
