// Command mkresults joins what kernels/cuda/device.sh measured in one run into one
// file, from which the README's table is made: for each product the kernel that
// the dispatch table chooses, beside cuBLAS.
//
//	go run ./kernels/cuda/mkresults -date D -commit C -competitors F TUNE.json... > testdata/results/gpu.json
//	go run ./kernels/cuda/mkresults -date D -commit C -competitors F -attention attention.json > testdata/results/attention.json
package main
