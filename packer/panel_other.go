//go:build !amd64 || noasm

package packer

func hasVectors() bool { return false }

func addPanelVectors(*float64, int, *float64, int, int, *float64, int) {}
