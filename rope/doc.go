// Package rope scales queries and keys round the rotary embedding, so that the
// outliers of cached keys move into the queries.
//
// A scale that is equal for both members of a rotary pair commutes with the
// rotation and folds into the weights; one per channel is applied after it.
// The rotary tables themselves belong to the forward pass (package model).
//
// The package holds no scaling yet: the recipes of this version leave queries
// and keys as they are.
package rope
