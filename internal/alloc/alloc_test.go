package alloc

import "testing"

var kept []byte

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		size, allocate int
		ok             bool
	}{{0, constant / 2, true}, {0, 2 * constant, false}, {constant, 4 * constant, true}, {constant, 6 * constant, false}} {
		if err := Check(tc.size, func() { kept = make([]byte, tc.allocate) }); (err == nil) != tc.ok {
			t.Errorf("%d bytes for %d: %v", tc.allocate, tc.size, err)
		}
	}
}
