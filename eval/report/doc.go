// Package report says what quantization did to a checkpoint, on one HTML page.
//
// In comes what is on disk: the quantized checkpoint with its manifest and sidecar,
// and where they are at hand the checkpoint that it was made from, results of eval
// kept beside the manifest, and statistics of the activations of both on a text. Out
// goes a [Report], the values, and by [Report.HTML] a page that shows them:
//
//	OUT/*.safetensors, config.json ──┐
//	OUT/quantize/manifest.json       │
//	OUT/quantize/attention.safetensors├─ Build ─ Report ─┬─ figures (SVG, package chart)
//	OUT/quantize/evaluation.json     │                   ├─ sections, only those with data
//	BASE, statistics ────────────────┘                   └─ tables of every number
//
// Everything that the bytes tell is derived from them again. What they cannot tell,
// the error of a weight against the smoothed and rotated one that was rounded, is
// taken from the manifest.
//
// The page is one file: no script, no font, no address is loaded. It follows the
// reader's light or dark setting, prints, and fits a phone. It has neither times nor
// host names: equal inputs give equal bytes.
package report
