package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"quantize/model/modeltest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"quantize": main})
}

// TestScripts runs the command line as a user does. The commands beside those
// of testscript:
//
//	exits CODE COMMAND...        the command ends with that exit code
//	tinymodel DIR                a random one-layer Llama with the demo's tokenizer
//	tinyexperts FAMILY DIR       a random mixtral or qwen3_moe of 8 experts with the demo's tokenizer
//	demomodel DIR                DIR/base, DIR/evaluation.txt, DIR/calibration.txt as demo writes them
//	flip FILE N                  changes the byte N before the end of the file
//	poison FILE TENSOR           the first value of a BF16 tensor in a safetensors file becomes NaN
//	truncate FILE N              cuts the last N bytes off
//	lengthen FILE GIB            one more tensor, which takes no room on the disk
//	json FILE KEY[=VALUE]...     FILE (stdout, stderr) is one object that has the keys; a.b is b in a
//	interrupt GLOB COMMAND...    SIGINT once GLOB matches; the exit code must be 130
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               ownCache,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "tinymodel": tinyModel, "tinyexperts": tinyExperts, "demomodel": demoModel,
			"flip": flip, "truncate": truncate, "json": jsonHas, "interrupt": interrupt, "poison": poison, "lengthen": lengthen,
		},
	})
}

// ownCache keeps a script out of the cache of the user who tests.
func ownCache(e *testscript.Env) error {
	e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "user-cache"))
	return nil
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "exits CODE COMMAND...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got, err := 0, ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func tinyShape(layers int) modeltest.Shape {
	return modeltest.Shape{
		Name: "tiny", Family: "llama", Hidden: 128, Intermediate: 256, Layers: layers, Heads: 2, KVHeads: 1, HeadDim: 64, Vocab: 2048,
		Tied: true, Config: map[string]any{"max_position_embeddings": 64},
	}
}

func tinyModel(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "tinymodel DIR")
	ts.Check(writeModel(ts.MkAbs(args[0]), tinyShape(1)))
}

func tinyExperts(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "tinyexperts FAMILY DIR")
	layers := 1
	if args[0] == "qwen3_moe" {
		layers = 2
	}
	ts.Check(writeModel(ts.MkAbs(args[1]), expertsShape(args[0], layers)))
}

// expertsShape has widths that W4A8 kernels for experts take, 256; the first layer
// of qwen3_moe is dense.
func expertsShape(family string, layers int) modeltest.Shape {
	shape := modeltest.Shape{
		Name: "experts", Family: family, Hidden: 256, Intermediate: 256, Layers: layers, Heads: 4, KVHeads: 2, HeadDim: 64, Vocab: 2048,
		Config: map[string]any{"max_position_embeddings": 64, "num_local_experts": 8, "num_experts_per_tok": 2},
	}
	if family == "qwen3_moe" {
		shape.Config = map[string]any{
			"max_position_embeddings": 64, "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true,
			"moe_intermediate_size": 256, "mlp_only_layers": []int{0},
		}
	}
	return shape
}

// writeModel writes a random model with the demo's tokenizer.
func writeModel(dir string, shape modeltest.Shape) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := modeltest.Random(1, shape).Write(dir); err != nil {
		return err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		data, err := demoFiles.ReadFile("demo/model/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func demoModel(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "demomodel DIR")
	ts.Check(unpackDemo(ts.MkAbs(args[0])))
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "flip FILE N")
	file := ts.MkAbs(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	data, err := os.ReadFile(file)
	ts.Check(err)
	data[len(data)-n] ^= 0x10
	ts.Check(os.WriteFile(file, data, 0o644))
}

func truncate(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "truncate FILE N")
	file := ts.MkAbs(args[0])
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	st, err := os.Stat(file)
	ts.Check(err)
	ts.Check(os.Truncate(file, st.Size()-n))
}

func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "json FILE KEY[=VALUE]...")
	var object any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &object); err != nil {
		ts.Fatalf("%s is not one JSON value: %v", args[0], err)
	}
	for _, arg := range args[1:] {
		path, want, compare := strings.Cut(arg, "=")
		v := object
		for key := range strings.SplitSeq(path, ".") {
			m, _ := v.(map[string]any)
			var ok bool
			if v, ok = m[key]; !ok {
				ts.Fatalf("%s has no key %s", args[0], path)
			}
		}
		if got, err := json.Marshal(v); compare && (err != nil || string(got) != want && string(got) != strconv.Quote(want)) {
			ts.Fatalf("%s is %s, want %s", path, got, want)
		}
	}
}

func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "interrupt GLOB COMMAND...")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path := ""
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(filepath.ListSeparator)) {
		if p := filepath.Join(dir, args[1]); path == "" {
			if _, err := os.Stat(p); err == nil {
				path = p
			}
		}
	}
	c := exec.CommandContext(ctx, path, args[2:]...)
	c.Dir, c.Stderr = ts.MkAbs("."), ts.Stderr()
	ts.Check(c.Start())
	for {
		found, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		if len(found) > 0 {
			break
		}
		if ctx.Err() != nil {
			ts.Fatalf("%s did not appear", args[0])
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Check(c.Process.Signal(syscall.SIGINT))
	_ = c.Wait() // the exit code says it
	if code := c.ProcessState.ExitCode(); code != exitInterrupted {
		ts.Fatalf("exit code %d, want %d", code, exitInterrupted)
	}
}
