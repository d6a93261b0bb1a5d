//go:build !amd64 || noasm

package cpu

func tokenFuncsOf(ISA) (maxAbs func(x *float32, n int) float32, round func(dst, x *float32, n int, a, by float32)) {
	return nil, nil
}
