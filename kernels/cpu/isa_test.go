package cpu

import (
	"errors"
	"strings"
	"testing"

	"quantize/internal/fault"
)

func TestSelect(t *testing.T) {
	have := Available()
	if have[0] != Generic {
		t.Fatalf("available are %v, without generic", have)
	}
	for _, isa := range have {
		if got, err := Select(isa.String()); err != nil || got != isa {
			t.Errorf("Select(%q) = %v, %v", isa, got, err)
		}
	}
	if got, err := Select(""); err != nil || got != have[len(have)-1] {
		t.Errorf("the best is %v (%v), want the last of %v", got, err, have)
	}
}

func TestSelectRefuses(t *testing.T) {
	names := []string{"sse9", "AVX2", " generic"}
	for _, isa := range []ISA{AVX2, AVX512, AMX} {
		if kernelFor(isa) == nil {
			names = append(names, isa.String()) // known, but not on this processor
		}
	}
	for _, name := range names {
		_, err := Select(name)
		var f *fault.Error
		if !errors.Is(err, ErrISA) || !errors.As(err, &f) {
			t.Errorf("Select(%q): error %v", name, err)
			continue
		}
		if f.Where != Variable || f.Found != name || !strings.Contains(f.Wanted, "generic") {
			t.Errorf("Select(%q) says %v", name, err)
		}
	}
}

func TestEnvironmentForces(t *testing.T) {
	t.Setenv(Variable, "generic")
	if isa := New().ISA(); isa != Generic {
		t.Errorf("New has %v", isa)
	}
	t.Setenv(Variable, "nonsense")
	if _, err := FromEnv(); !errors.Is(err, ErrISA) {
		t.Errorf("FromEnv: %v", err)
	}
	if best, _ := Select(""); New().ISA() != best {
		t.Errorf("New has %v after a wrong value, want %v", New().ISA(), best)
	}
}
