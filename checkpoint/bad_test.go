package checkpoint

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"quantize/tensor"
)

const (
	entryA = `"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	goodA  = `{` + entryA + `}`
)

func TestOpenRefusesBadShards(t *testing.T) {
	t.Parallel()
	lie := func(n uint64, rest string) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
	}
	entry := func(s string) []byte { return shardBytes(`{"a":`+s+`}`, 8) }
	for _, c := range []struct {
		name                 string
		file                 []byte
		where, found, wanted string
	}{
		{"empty file", nil, singleFile, "0 bytes", "at least 8"},
		{"100 GB header claim", lie(100<<30, goodA), singleFile, "a header of 107374182400 bytes", "at most 100000000"},
		{"header claim of 2^64-1", lie(math.MaxUint64, goodA), singleFile, "a header of 18446744073709551615 bytes", "at most 100000000"},
		{"header longer than the file", lie(99_000_000, goodA), singleFile, "a header of 99000000 bytes in a file of", "the whole header"},
		{"truncated data", shardBytes(goodA, 7), singleFile, "69 bytes", "62 bytes of header and 8 of tensors"},
		{"trailing bytes", shardBytes(goodA, 9), singleFile, "71 bytes", "62 bytes of header and 8 of tensors"},
		{"overlap", shardBytes(`{`+entryA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), `tensor "b" in`, "an overlap: data begin at offset 4", "8, where"},
		{"same place twice", shardBytes(`{`+entryA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), `tensor "b" in`, "an overlap: data begin at offset 0", "8, where"},
		{"hole", shardBytes(`{`+entryA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20), `tensor "b" in`, "a hole: data begin at offset 12", "8, where"},
		{"hole at the start", entry(`{"dtype":"F32","shape":[1],"data_offsets":[4,8]}`), `tensor "a" in`, "a hole", "0, where"},
		{"offsets beyond the file", entry(`{"dtype":"F32","shape":[4],"data_offsets":[0,16]}`), singleFile, "bytes", "16 of tensors"},
		{"size against shape", entry(`{"dtype":"F32","shape":[3],"data_offsets":[0,8]}`), `tensor "a" in`, "data_offsets [0, 8]", "12 bytes for F32 [3]"},
		{"offsets backwards", entry(`{"dtype":"F32","shape":[2],"data_offsets":[8,0]}`), `tensor "a" in`, "data_offsets [8, 0]", "8 bytes"},
		{"product overflows to the right size", entry(`{"dtype":"F32","shape":[4611686018427387905,2],"data_offsets":[0,8]}`), `tensor "a" in`, "data_offsets", "fewer than 2^63"},
		{"dimension beyond int64", entry(`{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}`), `tensor "a" in`, "dimension 18446744073709551615", "below 2^63"},
		{"dimension beyond uint64", entry(`{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}`), singleFile, "out of range", ""},
		{"negative dimension", entry(`{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}`), singleFile, "natural numbers", ""},
		{"fraction", entry(`{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}`), singleFile, "natural numbers", ""},
		{"unknown dtype", entry(`{"dtype":"F8_E8M0","shape":[8],"data_offsets":[0,8]}`), `tensor "a" in`, `dtype "F8_E8M0"`, "one of BOOL U8 I8 F8_E4M3"},
		{"the parser's spelling of no dtype", entry(`{"dtype":"unset","shape":[8],"data_offsets":[0,8]}`), `tensor "a" in`, `dtype "unset"`, "one of"},
		{"dtype not a string", entry(`{"dtype":3,"shape":[8],"data_offsets":[0,8]}`), singleFile, `invalid "dtype"`, ""},
		{"no dtype", entry(`{"shape":[8],"data_offsets":[0,8]}`), singleFile, "3 keys", ""},
		{"extra key", entry(`{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}`), singleFile, "3 keys", ""},
		{"dtype in capitals", entry(`{"DTYPE":"U8","shape":[8],"data_offsets":[0,8]}`), singleFile, `missing "dtype"`, ""},
		{"entry null", entry(`null`), `tensor "a" in`, "not an object", ""},
		{"duplicate tensor", shardBytes(`{`+entryA+`,`+entryA+`}`, 8), singleFile, `"a" occurs twice`, ""},
		{"duplicate tensor by escape", shardBytes(`{`+entryA+`,`+strings.Replace(entryA, `"a"`, `"\u0061"`, 1)+`}`, 8), singleFile, `"a" occurs twice`, ""},
		{"duplicate key in an entry", entry(`{"dtype":"U8","dtype":"F32","shape":[2],"data_offsets":[0,8]}`), `tensor "a" in`, `"dtype" occurs twice`, ""},
		{"metadata not of strings", shardBytes(`{"__metadata__":{"format":1},`+entryA+`}`, 8), singleFile, "expected string", ""},
		{"metadata twice the same key", shardBytes(`{"__metadata__":{"a":"","a":""},`+entryA+`}`, 8), singleFile, "occurs twice", ""},
		{"no JSON", shardBytes(`{"a":`, 8), singleFile, "unexpected EOF", ""},
		{"array", shardBytes(`[]`, 0), singleFile, "not a UTF-8 JSON object", "begins with '{'"},
		{"space first", shardBytes(` {}`, 0), singleFile, "not a UTF-8 JSON object", "begins with '{'"},
		{"not UTF-8", shardBytes("{\"\xff\":{}}", 0), singleFile, "not a UTF-8 JSON object", ""},
		{"two objects", shardBytes(`{}{}`, 0), singleFile, "something follows", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := makeDir(t, map[string][]byte{singleFile: c.file})
			_, err := Open(dir)
			wantFault(t, err, ErrInvalid, c.where, c.found, c.wanted)
			if !strings.Contains(err.Error(), filepath.Join(dir, singleFile)) {
				t.Errorf("%v does not name the file", err)
			}
		})
	}
}

// A header length that lies is refused before memory is taken for it.
func TestHeaderClaimTakesNoMemory(t *testing.T) {
	dir := makeDir(t, map[string][]byte{singleFile: append(binary.LittleEndian.AppendUint64(nil, maxHeader), goodA...)})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Open(dir); err == nil {
		t.Fatal("no error")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes allocated for a file of %d", got, 8+len(goodA))
	}
}

func TestOpenRefusesBadDirectories(t *testing.T) {
	t.Parallel()
	b := `{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	index := func(m string) []byte { return []byte(`{"metadata":{"total_size":16},"weight_map":{` + m + `}}`) }
	two := map[string][]byte{"1.safetensors": shardBytes(goodA, 8), "2.safetensors": shardBytes(b, 8)}
	for _, c := range []struct {
		name                 string
		index                []byte
		where, found, wanted string
	}{
		{"absolute path", index(`"a":"/etc/1.safetensors"`), `tensor "a" in`, `shard "/etc/1.safetensors"`, "plain"},
		{"parent directory", index(`"a":"../1.safetensors"`), `tensor "a" in`, `shard "../1.safetensors"`, "plain"},
		{"folder", index(`"a":"x/1.safetensors"`), `tensor "a" in`, `shard "x/1.safetensors"`, "plain"},
		{"backslash", index(`"a":"..\\1.safetensors"`), `tensor "a" in`, "shard", "plain"},
		{"other kind of file", index(`"a":"config.json"`), `tensor "a" in`, `shard "config.json"`, "plain"},
		{"not a string", index(`"a":null`), `tensor "a" in`, "not a string", "file name"},
		{"shard is missing", index(`"a":"1.safetensors","b":"3.safetensors"`), "3.safetensors", "", ""},
		{"shard lacks the tensor", index(`"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"`), `tensor "c" in`, "no such tensor in the shard", "index"},
		{"index lacks a tensor", index(`"a":"1.safetensors","c":"2.safetensors"`), `tensor "b" in`, "the index does not name", "agree"},
		{"tensor in another shard", index(`"a":"2.safetensors","b":"1.safetensors"`), `tensor "a" in`, "places in 2.safetensors", "agree"},
		{"name twice", index(`"a":"1.safetensors","a":"2.safetensors"`), indexFile, `"a" occurs twice`, ""},
		{"weight_map twice", []byte(`{"weight_map":{},"weight_map":{}}`), indexFile, "occurs twice", ""},
		{"empty weight_map", index(``), indexFile, "no tensor", ""},
		{"no weight_map", []byte(`{}`), indexFile, "no tensor", ""},
		{"weight_map is a list", []byte(`{"weight_map":["a"]}`), indexFile, "not an object", ""},
		{"no JSON", []byte(`nonsense`), indexFile, "bad index", ""},
		{"not UTF-8", []byte("{\"\xff\":1}"), indexFile, "not UTF-8", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := makeDir(t, two)
			writeFile(t, dir, indexFile, c.index)
			_, err := Open(dir)
			wantFault(t, err, ErrInvalid, c.where, c.found, c.wanted)
		})
	}
	t.Run("same tensor in two shards", func(t *testing.T) {
		t.Parallel()
		dir := makeDir(t, map[string][]byte{
			"1.safetensors": shardBytes(goodA, 8), "2.safetensors": shardBytes(`{`+entryA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16),
			indexFile: index(`"a":"1.safetensors","b":"2.safetensors"`),
		})
		_, err := Open(dir)
		wantFault(t, err, ErrInvalid, `tensor "a" in `+filepath.Join(dir, "2.safetensors"), "places in 1.safetensors", "agree")
	})
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		_, err := Open(filepath.Join(t.TempDir(), "none"))
		wantFault(t, err, ErrInvalid, "none", "", "Hugging Face")
	})
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		_, err := Open(filepath.Join(makeDir(t, nil), configFile))
		wantFault(t, err, ErrInvalid, configFile, "", "Hugging Face")
	})
	t.Run("no weights", func(t *testing.T) {
		t.Parallel()
		_, err := Open(makeDir(t, map[string][]byte{"pytorch_model.bin": nil}))
		wantFault(t, err, ErrInvalid, "", "neither model.safetensors nor", "safetensors weights")
	})
	t.Run("no config", func(t *testing.T) {
		t.Parallel()
		dir := makeDir(t, map[string][]byte{singleFile: shardBytes(goodA, 8)})
		if err := os.Remove(filepath.Join(dir, configFile)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		wantFault(t, err, ErrInvalid, configFile, "", "")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v does not wrap the cause", err)
		}
	})
	t.Run("shard is a directory", func(t *testing.T) {
		t.Parallel()
		_, err := Open(makeDir(t, map[string][]byte{singleFile + "/x": nil}))
		wantFault(t, err, ErrInvalid, singleFile, "a directory", "regular file")
	})
}

func TestLinksMayNotLeave(t *testing.T) {
	t.Parallel()
	outside := makeDir(t, map[string][]byte{singleFile: shardBytes(goodA, 8)})
	for name, target := range map[string]string{"absolute": filepath.Join(outside, singleFile), "relative": "../" + filepath.Base(outside) + "/" + singleFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := makeDir(t, nil)
			if err := os.Symlink(target, filepath.Join(dir, singleFile)); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			wantFault(t, err, ErrInvalid, singleFile, "a symbolic link that leaves", "inside")
		})
	}
	t.Run("index", func(t *testing.T) {
		t.Parallel()
		dir := makeDir(t, map[string][]byte{indexFile: []byte(`{"weight_map":{"a":"1.safetensors"}}`)})
		if err := os.Symlink(filepath.Join(outside, singleFile), filepath.Join(dir, "1.safetensors")); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		wantFault(t, err, ErrInvalid, "1.safetensors", "a symbolic link that leaves", "inside")
	})
}

func TestMatrixRefuses(t *testing.T) {
	t.Parallel()
	header := `{"nan":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"inf64":{"dtype":"F64","shape":[1],"data_offsets":[12,20]},` +
		`"codes":{"dtype":"I32","shape":[1],"data_offsets":[20,24]},"cube":{"dtype":"U8","shape":[1,1,1],"data_offsets":[24,25]},` +
		`"none":{"dtype":"F32","shape":[0,3],"data_offsets":[25,25]}}`
	file := shardBytes(header, 25)
	data := file[8+len(header):]
	binary.LittleEndian.PutUint16(data[2*4:], 0xFFC0)
	binary.LittleEndian.PutUint64(data[12:], math.Float64bits(1e300)) // infinite in FP32
	r := open(t, makeDir(t, map[string][]byte{singleFile: file}))
	for _, c := range []struct{ name, found, wanted string }{
		{"nan", "NaN at element 4 (row 1, column 1)", "finite"},
		{"inf64", "+Inf at element 0 (row 0, column 0)", "finite"},
		{"codes", "dtype I32", "floating-point"},
		{"cube", "shape [1 1 1]", "one or two dimensions"},
		{"none", "shape [0 3]", "at least one element"},
		{"missing", "no such tensor", "config.json"},
	} {
		_, err := r.Matrix(c.name)
		wantFault(t, err, ErrInvalid, `tensor "`+c.name+`" in`, c.found, c.wanted)
	}
	_, err := r.Raw("missing", nil)
	wantFault(t, err, ErrInvalid, `tensor "missing" in`, "no such tensor", "")
	_, err = r.Info("missing")
	wantFault(t, err, ErrInvalid, `tensor "missing" in`, "no such tensor", "")
}

// The first bad element is found wherever it lies in the chunks.
func TestMatrixFindsNaNAcrossChunks(t *testing.T) {
	t.Parallel()
	const n = chunk/2 + 5
	info := Info{"w", tensor.BF16, []int{n}}
	for _, at := range []int{0, chunk/2 - 1, chunk / 2, n - 1} {
		dir := t.TempDir()
		w, err := Create(filepath.Join(dir, "out"), []Info{info}, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 2*n)
		binary.LittleEndian.PutUint16(data[2*at:], 0x7F80)
		if err := errors.Join(w.Add("w", data), w.File(configFile, nil), w.Commit()); err != nil {
			t.Fatal(err)
		}
		_, err = open(t, filepath.Join(dir, "out")).Matrix("w")
		wantFault(t, err, ErrInvalid, `tensor "w" in`, "+Inf at element "+strconv.Itoa(at)+" ", "finite")
	}
}

// A file that shrinks after Open is an error, not zeros.
func TestFileShrinksWhileOpen(t *testing.T) {
	t.Parallel()
	dir := makeDir(t, map[string][]byte{singleFile: shardBytes(goodA, 8)})
	r := open(t, dir)
	if err := os.Truncate(filepath.Join(dir, singleFile), int64(8+len(goodA)+4)); err != nil {
		t.Fatal(err)
	}
	_, err := r.Raw("a", nil)
	wantFault(t, err, ErrInvalid, `tensor "a" in`, "the end of the file", "more data")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v does not wrap the cause", err)
	}
	_, err = r.Matrix("a")
	wantFault(t, err, ErrInvalid, `tensor "a" in`, "the end of the file", "more data")
}
