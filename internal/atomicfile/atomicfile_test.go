package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree lists what is under dir: directories end in '/', files show their content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			got[rel+"/"] = ""
			return nil
		}
		data, err := os.ReadFile(path)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

// fullFile is a file on a full disk.
type fullFile struct{ File }

func (fullFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// failSync is a file whose data do not reach the disk.
type failSync struct{ File }

func (failSync) Sync() error { return syscall.EIO }

func creating(wrap func(File) File) func(string) (File, error) {
	return func(path string) (File, error) {
		f, err := OS.Create(path)
		if err != nil {
			return nil, err
		}
		return wrap(f), nil
	}
}

func TestWriteReplacesOrLeavesTheOldContent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Disk)
		want   error
	}{
		"real disk":     {func(*Disk) {}, nil},
		"full disk":     {func(d *Disk) { d.Create = creating(func(f File) File { return fullFile{f} }) }, syscall.ENOSPC},
		"fsync fails":   {func(d *Disk) { d.Create = creating(func(f File) File { return failSync{f} }) }, syscall.EIO},
		"rename fails":  {func(d *Disk) { d.Rename = func(string, string) error { return syscall.EACCES } }, syscall.EACCES},
		"create denied": {func(d *Disk) { d.Create = func(string) (File, error) { return nil, syscall.EACCES } }, syscall.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "a.json")
			if err := Write(path, []byte("old")); err != nil {
				t.Fatal(err)
			}
			d := OS
			c.change(&d)
			content := "new"
			if c.want != nil {
				content = "old"
			}
			if err := d.Write(path, []byte("new")); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			wantTree(t, dir, map[string]string{"a.json": content})
		})
	}
}

func put(t *testing.T, s *Stage, rel, content string) {
	t.Helper()
	f, err := s.Create(rel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestStageAppearsAtOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]string{"new": "out", "missing parents": "a/b/out", "empty directory": "empty"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "empty"), 0o777); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			s, err := OS.NewStage(filepath.Join(dir, out))
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "x", "1")
			put(t, s, "sub/deep/y", "2")
			if err := s.Abort(); err != nil {
				t.Fatal(err)
			}
			wantTree(t, dir, before)
			if _, err := s.Create("late"); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("Create after Abort: %v", err)
			}

			if s, err = OS.NewStage(filepath.Join(dir, out)); err != nil {
				t.Fatal(err)
			}
			put(t, s, "x", "1")
			put(t, s, "sub/deep/y", "2")
			if _, err := os.Stat(s.Out()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something is seen before Commit: %v", err)
			}
			if err := errors.Join(s.Commit(), s.Abort()); err != nil {
				t.Fatal(err)
			}
			wantTree(t, filepath.Join(dir, out), map[string]string{"x": "1", "sub/": "", "sub/deep/": "", "sub/deep/y": "2"})
			if err := s.Commit(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("second Commit: %v", err)
			}
		})
	}
}

// Who made the output private, or shared with a group, finds it so, and never wider
// while it is filled.
func TestStageKeepsTheMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o700, 0o755, 0o770, 0o777, 0o500, 0o700 | fs.ModeSticky} {
		for _, commit := range []bool{true, false} {
			out := filepath.Join(t.TempDir(), "out")
			if err := os.Mkdir(out, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(out, mode); err != nil { // whatever the umask
				t.Fatal(err)
			}
			s, err := OS.NewStage(out)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "x", "1")
			if st, err := os.Stat(s.Dir()); err != nil || st.Mode()&permissions != mode|0o700 {
				t.Errorf("%v: while it is filled %v, %v", mode, st.Mode(), err)
			}
			end := s.Abort
			if commit {
				end = s.Commit
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(out); err != nil || st.Mode()&permissions != mode {
				t.Errorf("%v: commit %v leaves %v, %v", mode, commit, st.Mode(), err)
			}
			if err := os.Chmod(out, 0o700); err != nil { // so that it can be removed
				t.Fatal(err)
			}
		}
	}
}

func TestStageRefusesWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, sub := range []string{"full", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for rel, target := range map[string]string{"broken": "nowhere", "link": "empty", "tofull": "full"} {
		if err := os.Symlink(target, filepath.Join(dir, rel)); err != nil {
			t.Fatal(err)
		}
	}
	for _, rel := range []string{"file", "full/x"} {
		if err := os.WriteFile(filepath.Join(dir, rel), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for out, want := range map[string]error{"file": ErrNotEmpty, "full": ErrNotEmpty, "tofull": ErrNotEmpty, "broken": fs.ErrNotExist} {
		if _, err := OS.NewStage(filepath.Join(dir, out)); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", out, err, want)
		}
	}
	s, err := OS.NewStage(filepath.Join(dir, "link"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rel := range []string{"/x", "../x", ".", "", "a/../../x"} {
		if _, err := s.Create(rel); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Create(%q): %v", rel, err)
		}
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "link")); err != nil || to != "empty" {
		t.Errorf("the link to the output is now %q, %v", to, err)
	}
}

func TestStageSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := OS
	d.Rename = func(string, string) error { return syscall.EACCES }
	s, err := d.NewStage(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "x", "1")
	if err := s.Commit(); !errors.Is(err, syscall.EACCES) {
		t.Errorf("got %v", err)
	}
	s.disk = OS
	if err := s.Commit(); err != nil {
		t.Error(err)
	}
	wantTree(t, dir, map[string]string{"out/": "", "out/x": "1"})
}

// Somebody made the output while the stage was filled: it is not overwritten.
func TestCommitDoesNotReplaceANewcomer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := OS.NewStage(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "x", "1")
	if err := os.MkdirAll(filepath.Join(dir, "out", "theirs"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if err := s.Abort(); err != nil {
		t.Error(err)
	}
	wantTree(t, dir, map[string]string{"out/": "", "out/theirs/": ""})
}

func TestRemoveLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stage, err := OS.NewStage(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := stage.Create("a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".out2.tmp-abcdefghij", ".out.tmp-short", "out.tmp-abcdefghij"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveLeftovers(filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	wantTree(t, dir, map[string]string{".out2.tmp-abcdefghij": "", ".out.tmp-short": "", "out.tmp-abcdefghij": ""})
	if err := RemoveLeftovers(filepath.Join(dir, "absent", "out")); err != nil {
		t.Errorf("no directory: %v", err)
	}
}
