// Package smoothing moves outliers between the weights and activations of a
// linear layer without changing the function of the model.
//
// A transform takes calibrate.Stats of a site and the pairs of the
// architecture table (who feeds whom) and gives a plan, a scale or an
// orthogonal matrix per site, that folds into the weights before they are
// rounded:
//
//	producer (norm weight, or rows of v and up)  ->  / s
//	consumers (columns of q k v, o, gate up, down) ->  * s
//
// The package holds no transform yet: the recipes of this version round the
// weights as they are.
package smoothing
