//go:build !amd64 || noasm

package eval

func hasVectors() bool { return false }

func (s *lanes) addExpVectors(x []float32, shift float64) { s.addExp(x, shift) }

func (s *lanes) addDivergenceVectors(x, y []float32, shift float64) { s.addDivergence(x, y, shift) }

func largestVectors(x []float32) float32 { return largest(x) }
