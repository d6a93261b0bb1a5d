package simd

import "testing"

func TestGenericIsForced(t *testing.T) {
	t.Setenv(Variable, "generic")
	if AVX2() {
		t.Error("AVX2 although plain Go was asked for")
	}
	t.Setenv(Variable, "avx2")
	forced := AVX2()
	t.Setenv(Variable, "")
	if AVX2() != forced {
		t.Error("naming AVX2 changes whether the processor has it")
	}
}
