package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"quantize/tensor"
)

// A source is all that an output is made of, not its weights alone.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", configFile, indexFile, "tokenizer.json", "sub/extra.py", "model-00001-of-00002.safetensors"} {
		for _, how := range []string{"written", "gone"} {
			dir := write(t, []Info{{"a", tensor.U8, []int{4}}, {"b", tensor.U8, []int{4}}}, WriterOptions{ShardBytes: 4})
			for _, name := range []string{"tokenizer.json", "sub/extra.py"} {
				put(t, filepath.Join(dir, name), "{}")
			}
			if err := os.Symlink("nowhere", filepath.Join(dir, "broken.json")); err != nil {
				t.Fatal(err)
			}
			r := open(t, dir)
			path := filepath.Join(dir, file)
			shard := filepath.Ext(file) == shardExt
			switch {
			case file == "":
			case how == "gone":
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			default:
				soon := time.Now().Add(time.Minute) // clocks of files are coarse
				if err := os.Chtimes(path, soon, soon); err != nil {
					t.Fatal(err)
				}
			}
			err := r.Unchanged()
			stillRead := shard && how == "gone"
			if want := file != "" && !stillRead; errors.Is(err, ErrChanged) != want {
				t.Errorf("%s %s: %v", file, how, err)
			} else if want {
				wantFault(t, err, ErrInvalid, path, "", "")
			}
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}
