// Package archtest holds the tests of the house itself: the one-way import rule
// and who may import which outside module. It exports nothing.
//
//	tensor, recipe -> checkpoint -> model -> calibrate -> smoothing | rope
//	  -> packer -> kernels -> eval -> cmd
//
// A package imports only from its left, and internal/*; internal imports
// nothing of ours.
package archtest
