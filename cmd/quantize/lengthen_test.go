package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// lengthen gives a safetensors file one more tensor, "extra", of so many GiB that take no
// room on the disk: what reads all of the file needs long.
func lengthen(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "lengthen FILE GIB")
	file := ts.MkAbs(args[0])
	gib, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	data, err := os.ReadFile(file)
	ts.Check(err)
	head := 8 + binary.LittleEndian.Uint64(data)
	var tensors map[string]json.RawMessage
	ts.Check(json.Unmarshal(data[8:head], &tensors))
	at, size := int64(len(data))-int64(head), gib<<30
	tensors["extra"] = json.RawMessage(fmt.Sprintf(`{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}`, size, at, at+size))
	header, err := json.Marshal(tensors)
	ts.Check(err)
	longer := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	longer = append(longer, data[head:]...)
	ts.Check(os.WriteFile(file, longer, 0o644))
	ts.Check(os.Truncate(file, int64(len(longer))+size))
}
