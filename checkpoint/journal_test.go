package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quantize/internal/atomicfile"
	"quantize/internal/filelock"
)

// openJournal opens the journal of out and collects its warnings.
func openJournal(t *testing.T, out string) (*Journal, *[]string) {
	t.Helper()
	var told []string
	j, err := OpenJournal(out, func(m string) { told = append(told, m) })
	if err != nil {
		t.Fatal(err)
	}
	return j, &told
}

func inputs(recipe string) []Input { return []Input{{"source", "a"}, {"recipe", recipe}} }

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestJournalKeepsParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "new", "out")
	j, _ := openJournal(t, out)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(j.Begin(inputs("rtn"), false))
	must(j.Store("block-0000", SectionOf("meta", []byte("old"))))
	must(j.Store("block-0000", SectionOf("meta", []byte("{}")), SectionOf("data", bytes.Repeat([]byte{7}, 1<<18))))
	must(j.Close())

	j, told := openJournal(t, out)
	must(j.Begin(inputs("rtn"), false))
	if p := j.Load("block-0001"); p != nil {
		t.Error("a part that was never kept")
	}
	p := j.Load("block-0000")
	if p == nil || len(p.Sections()) != 2 || p.Section("none") != nil {
		t.Fatalf("part %+v", p)
	}
	if data, err := p.Bytes("data"); err != nil || len(data) != 1<<18 || data[5] != 7 {
		t.Errorf("%d bytes, error %v", len(data), err)
	}
	must(p.Close())
	must(j.Close())

	// Other inputs are refused by name, and nothing is lost.
	j, _ = openJournal(t, out)
	err := j.Begin(inputs("gptq"), false)
	if !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "recipe rtn") || strings.Contains(err.Error(), "source") {
		t.Errorf("another recipe: %v", err)
	}
	must(j.Close())
	j, _ = openJournal(t, out)
	must(j.Begin(inputs("rtn"), false))
	if j.Count("block-") != 1 {
		t.Error("the part is lost")
	}
	must(j.Begin(inputs("gptq"), true))
	if j.Count("") != 0 {
		t.Error("fresh has kept a part")
	}
	must(j.Close())
	if len(*told) > 0 {
		t.Errorf("warnings %q", *told)
	}
	if left := names(t, filepath.Join(dir, "new")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// Whatever byte of a part changes or is missing, it counts as none.
func TestJournalFindsDamage(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	j, told := openJournal(t, out)
	if err := j.Begin(inputs("rtn"), false); err != nil {
		t.Fatal(err)
	}
	if err := j.Store("head", SectionOf("data", []byte("0123456789"))); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(j.path("head"))
	if err != nil {
		t.Fatal(err)
	}
	var bad [][]byte
	for i := range whole {
		flipped := slices.Clone(whole)
		flipped[i] ^= 1
		bad = append(bad, flipped, whole[:i])
	}
	bad = append(bad, append(slices.Clone(whole), 0))
	for i, data := range bad {
		*told = nil
		if err := os.WriteFile(j.path("head"), data, 0o666); err != nil {
			t.Fatal(err)
		}
		if p := j.Load("head"); p != nil || len(*told) != 1 || !strings.Contains((*told)[0], "head") {
			t.Fatalf("damage %d: part %v, warnings %q", i, p, *told)
		}
		if p := j.Load("head"); p != nil || len(*told) != 1 {
			t.Fatalf("damage %d: it is still there", i)
		}
	}
	if err := os.WriteFile(filepath.Join(j.dir, inputsFile), []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(j.path("head"), whole, 0o666); err != nil {
		t.Fatal(err)
	}
	*told = nil
	if err := j.Begin(inputs("rtn"), false); err != nil || len(*told) != 1 || j.Count("") != 0 {
		t.Errorf("damaged inputs: %v, warnings %q, %d parts", err, *told, j.Count(""))
	}
	if err := j.Done(); err != nil {
		t.Error(err)
	}
}

func TestJournalLocksAndCleans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	j, _ := openJournal(t, out)
	var held *filelock.HeldError
	if _, err := OpenJournal(out, nil); !errors.Is(err, ErrOutput) || !errors.As(err, &held) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second journal: %v", err)
	}
	spill, err := j.Spill()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 3)
	if _, err := spill.WriteAt([]byte("abc"), 10); err != nil {
		t.Error(err)
	}
	if _, err := spill.ReadAt(data, 10); err != nil || string(data) != "abc" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := spill.ReadAt(data, 12); !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: %v", err)
	}
	if err := errors.Join(spill.Close(), j.Close()); err != nil {
		t.Error(err)
	}
	// A killed process leaves a stage, and half a part.
	for _, path := range []string{".out.tmp-abcdefghij/x", ".out.quantize/.block.tmp-abcdefghij", ".out.quantize/.spill-1", ".out.quantize/lock"} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, nil, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	j, _ = openJournal(t, out)
	if left := names(t, dir); !slices.Equal(left, []string{".out.quantize"}) {
		t.Errorf("%q is left", left)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	// A finished output is not touched, and the journal beside it has no use.
	if err := os.MkdirAll(filepath.Join(out, "quantize"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(out, "quantize", "manifest.json"), filepath.Join(dir, ".out.quantize", "block-0000.aa")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, nil, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenJournal(out, nil); !errors.Is(err, atomicfile.ErrNotEmpty) {
		t.Errorf("a finished output: %v", err)
	}
	if left := names(t, dir); !slices.Equal(left, []string{"out"}) {
		t.Errorf("%q is left", left)
	}
}

// No journal keeps nothing; a full disk costs a warning; a broken reader is an error.
func TestLockDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "dir")
	for range 2 { // the second time the directory is there
		release, err := LockDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		var held *filelock.HeldError
		if _, err := LockDirectory(dir); !errors.Is(err, ErrOutput) || !errors.As(err, &held) || held.PID != os.Getpid() {
			t.Errorf("a second lock: %v", err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		if left := names(t, dir); len(left) != 0 {
			t.Errorf("%q is left", left)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := LockDirectory(file)
	wantFault(t, err, ErrOutput, file, "", "")
}

func TestJournalWithout(t *testing.T) {
	t.Parallel()
	var none *Journal
	if err := errors.Join(none.Store("a"), none.Close(), none.Done()); err != nil || none.Load("a") != nil || none.Count("") != 0 || none.Dir() != "" {
		t.Errorf("no journal: %v", err)
	}
	j, told := openJournal(t, filepath.Join(t.TempDir(), "out"))
	if err := j.Begin(nil, false); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := j.Store("a", Section{"data", 4, io.MultiReader(strings.NewReader("a"), errorReader{broken})})
	if !errors.Is(err, broken) || len(*told) > 0 {
		t.Errorf("a broken reader: %v, warnings %q", err, *told)
	}
	if err := j.Store("a", Section{"data", 4, strings.NewReader("a")}); err == nil {
		t.Error("a section of the wrong length is kept")
	}
	if err := os.RemoveAll(j.dir); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Store("a"), j.Store("b")); err != nil || len(*told) != 1 {
		t.Errorf("a disk that fails: %v, warnings %q", err, *told)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
