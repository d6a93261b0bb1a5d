package main

import (
	"encoding/binary"
	"encoding/json"
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

func poison(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "poison FILE TENSOR")
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	head := 8 + binary.LittleEndian.Uint64(data)
	var tensors map[string]struct {
		DType   string    `json:"dtype"`
		Offsets [2]uint64 `json:"data_offsets"`
	}
	ts.Check(json.Unmarshal(data[8:head], &tensors))
	t := tensors[args[1]]
	if t.DType != "BF16" {
		ts.Fatalf("%s is of dtype %q", args[1], t.DType)
	}
	binary.LittleEndian.PutUint16(data[head+t.Offsets[0]:], 0x7fc0)
	ts.Check(os.WriteFile(file, data, 0o644))
}
