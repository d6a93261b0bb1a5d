package recipe

import (
	"embed"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"quantize/internal/fault"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// Names lists the built-in recipes, sorted.
func Names() []string {
	entries, err := builtin.ReadDir("builtin")
	if err != nil {
		panic("recipe: no embedded recipes")
	}
	var list []string
	for _, e := range entries {
		list = append(list, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(list)
	return list
}

// Source returns the YAML text of a built-in recipe, comments included.
func Source(name string) ([]byte, error) {
	if slices.Contains(Names(), name) {
		return builtin.ReadFile(path.Join("builtin", name+".yaml"))
	}
	return nil, &fault.Error{
		Err: ErrInvalid, Where: name, Found: "no built-in recipe of that name",
		Wanted: strings.Join(Names(), ", "), Hint: "or the path of a .yaml file",
	}
}

// Load reads a built-in recipe by name, or a file: anything that has a path
// separator or ends in .yaml or .yml. Errors wrap [ErrInvalid].
func Load(nameOrPath string) (*Recipe, error) {
	ext := filepath.Ext(nameOrPath)
	if ext != ".yaml" && ext != ".yml" && !strings.ContainsRune(nameOrPath, filepath.Separator) {
		data, err := Source(nameOrPath)
		if err != nil {
			return nil, err
		}
		return Decode(nameOrPath, data)
	}
	st, err := os.Stat(nameOrPath)
	if err == nil && st.Size() > maxBytes {
		return Decode(nameOrPath, make([]byte, maxBytes+1))
	}
	data, err := os.ReadFile(nameOrPath)
	if err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: nameOrPath, Found: fault.Cause(err), Wanted: "a readable recipe file", Hint: fault.HintFile}
	}
	return Decode(nameOrPath, data)
}
