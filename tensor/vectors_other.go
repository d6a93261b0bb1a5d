//go:build !amd64 || noasm

package tensor

func hasVectors() bool { return false }

func decodeVectors([]float32, []byte, DType) bool { return false }

func encodeVectors([]byte, []float32, DType) bool { return false }
