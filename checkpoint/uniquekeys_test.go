package checkpoint

import (
	"strings"
	"testing"
)

func TestUniqueKeys(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		`{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}`: "",
		`{"a": "a", "b": "a"}`:                               "",
		`{"a": 1, "b": 2, "a": 1}`:                           `"a" twice`,
		`{"a": {"x": [], "x": []}}`:                          `"x" twice`,
		`{"a": [1, {"y": {}, "z": [], "y": 0}]}`:             `"y" twice`,
		`{"a": 1, "\u0061": 2}`:                              `"a" twice`,
		`{"a": 1e999, "a": 1}`:                               `"a" twice`,
		`[{"a": {}}, "a", "a"]`:                              "",
		`{"a": 1, "a"`:                                       "",
		`{"a": `:                                             "",
		`]`:                                                  "",
		``:                                                   "",
	} {
		if err := UniqueKeys([]byte(text)); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, wanted %q", text, err, says)
		}
	}
}
