// Package captured stores the queries, keys and values that a model's layers attend with
// on some text, for a machine that has a card and not the model: kernels/cuda/mkcaptured
// writes them, the tests of kernels/cuda read them.
package captured
