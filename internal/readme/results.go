package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// readResults reads a file of results into r; false: there is none, nothing was measured.
func readResults(path string, r any) (bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, r); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}
