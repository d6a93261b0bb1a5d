// Package recipe holds the user's intent as data: which scheme, how weights are
// rounded, what is calibrated on, and which layers stay as they are.
//
//	file.yaml ─┐
//	           ├─ Decode (strict) ─ Default(scheme) under it ─ Validate ─> Recipe
//	builtin/ ──┘
//
// A run is a recipe, a checkpoint and nothing else: no behaviour hides in flags
// or in the environment, so the recipe is written into the output and two runs
// give the same bytes. Every field has an effect or is refused under the schemes
// that do not read it; an unknown field is an error with its line.
//
// The words for schemes are those of compressed-tensors (W4A16, FP8_DYNAMIC),
// which every reader of the field knows.
package recipe
