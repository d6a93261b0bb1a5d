package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quantize/internal/atomicfile"
	"quantize/tensor"
)

// flaky is a file on a disk that fails: the nth of its writes, or its Sync.
type flaky struct {
	atomicfile.File
	writes *int // left before writing fails, shared by all files
	write  error
	sync   error
}

func (f flaky) spend() error {
	*f.writes--
	if *f.writes < 0 {
		return f.write
	}
	return nil
}

func (f flaky) Write(p []byte) (int, error) {
	if err := f.spend(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f flaky) WriteAt(p []byte, at int64) (int, error) {
	if err := f.spend(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f flaky) Sync() error { return errors.Join(f.sync, f.File.Sync()) }

// onDisk replaces the disk; such tests are not parallel.
func onDisk(t *testing.T, change func(*atomicfile.Disk)) {
	t.Helper()
	old := disk
	t.Cleanup(func() { disk = old })
	change(&disk)
}

// run makes a whole checkpoint of 2 tensors in 2 shards and one file: writes 1
// and 2 are the headers, then come a, b, config.json and the index.
func run(out string, r *Reader) (err error) {
	infos := []Info{{"a", tensor.U8, []int{4}}, {"b", tensor.U8, []int{4}}}
	w, err := Create(out, infos, WriterOptions{ShardBytes: 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Abort()) }()
	if err := w.Add("a", make([]byte, 4)); err != nil {
		return err
	}
	if err := w.Copy(r, "b"); err != nil {
		return err
	}
	if err := w.File("sub/"+configFile, []byte("{}")); err != nil {
		return err
	}
	return w.Commit()
}

func TestFailingDiskLeavesNothing(t *testing.T) {
	fail := func(writes int, write, sync error) func(*atomicfile.Disk) {
		return func(d *atomicfile.Disk) {
			create := d.Create
			d.Create = func(path string) (atomicfile.File, error) {
				f, err := create(path)
				if err != nil {
					return nil, err
				}
				return flaky{f, &writes, write, sync}, nil
			}
		}
	}
	mkdir := func(when string, err error) func(*atomicfile.Disk) {
		return func(d *atomicfile.Disk) {
			mkdir := d.Mkdir
			d.Mkdir = func(path string) error {
				if strings.Contains(filepath.Base(path), when) {
					return &os.PathError{Op: "mkdir", Path: path, Err: err}
				}
				return mkdir(path)
			}
		}
	}
	for _, c := range []struct {
		name  string
		disk  func(*atomicfile.Disk)
		cause error
		hint  string
	}{
		{"full at the first header", fail(0, syscall.ENOSPC, nil), syscall.ENOSPC, "free space"},
		{"full at the second header", fail(1, syscall.ENOSPC, nil), syscall.ENOSPC, "free space"},
		{"full in Add", fail(2, syscall.ENOSPC, nil), syscall.ENOSPC, "free space"},
		{"full in Copy", fail(3, syscall.EDQUOT, nil), syscall.EDQUOT, "free space"},
		{"full in File", fail(4, syscall.ENOSPC, nil), syscall.ENOSPC, "free space"},
		{"full in the index", fail(5, syscall.ENOSPC, nil), syscall.ENOSPC, "free space"},
		{"broken disk at fsync", fail(99, nil, syscall.EIO), syscall.EIO, ""},
		{"full when space is reserved", func(d *atomicfile.Disk) {
			d.Reserve = func(atomicfile.File, int64) error { return syscall.ENOSPC }
		}, syscall.ENOSPC, "free space"},
		{"parent not writable", mkdir(".out.tmp-", syscall.EACCES), syscall.EACCES, "writable"},
		{"grandparent read-only", mkdir("parent", syscall.EROFS), syscall.EROFS, "writable"},
		{"folder not writable", mkdir("sub", syscall.EACCES), syscall.EACCES, "writable"},
		{"shards not creatable", func(d *atomicfile.Disk) {
			d.Create = func(path string) (atomicfile.File, error) {
				return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EACCES}
			}
		}, syscall.EACCES, "writable"},
		{"rename refused", func(d *atomicfile.Disk) {
			d.Rename = func(string, string) error { return syscall.EACCES }
		}, syscall.EACCES, "writable"},
		{"a mount point in the way", func(d *atomicfile.Disk) {
			d.Rename = func(string, string) error { return syscall.EBUSY }
		}, syscall.EBUSY, "mount point"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, write(t, []Info{{"b", tensor.U8, []int{4}}}, WriterOptions{}))
			before := snapshot(t, r.Dir())
			onDisk(t, c.disk)
			top := t.TempDir()
			out := filepath.Join(top, "parent", "out")
			err := run(out, r)
			wantFault(t, err, ErrOutput, out, "", "")
			if !errors.Is(err, c.cause) || !strings.Contains(err.Error(), c.hint) {
				t.Errorf("%v\nmust wrap %v and hint at %q", err, c.cause, c.hint)
			}
			wantEmpty(t, top)
			if after := snapshot(t, r.Dir()); len(after) != len(before) {
				t.Errorf("source has %d files, had %d", len(after), len(before))
			}
		})
	}
	t.Run("no failure", func(t *testing.T) {
		r := open(t, write(t, []Info{{"b", tensor.U8, []int{4}}}, WriterOptions{}))
		out := filepath.Join(t.TempDir(), "parent", "out")
		onDisk(t, fail(6, syscall.ENOSPC, nil))
		if err := run(out, r); err != nil {
			t.Errorf("the table above counts writes wrongly: %v", err)
		}
	})
}

// After a failed write nothing can be committed, whatever else succeeds.
func TestFailedWriteIsFinal(t *testing.T) {
	left := 2
	onDisk(t, func(d *atomicfile.Disk) {
		create := d.Create
		d.Create = func(path string) (atomicfile.File, error) {
			f, err := create(path)
			return flaky{f, &left, syscall.ENOSPC, nil}, err
		}
	})
	out := filepath.Join(t.TempDir(), "out")
	w, err := Create(out, []Info{{"a", tensor.U8, []int{4}}, {"b", tensor.U8, []int{4}}}, WriterOptions{ShardBytes: 4})
	if err != nil {
		t.Fatal(err)
	}
	first := w.Add("a", make([]byte, 4))
	left = 99 // somebody freed space
	for name, err := range map[string]error{"Add": w.Add("b", make([]byte, 4)), "File": w.File("x", nil), "Commit": w.Commit()} {
		if err == nil || err.Error() != first.Error() {
			t.Errorf("%s: got %v, want %v", name, err, first)
		}
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, filepath.Dir(out))
}

// Root may write anywhere, so this is not left to file modes alone: the table
// above injects EACCES. Here the path itself forbids it.
func TestOutputUnderAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Create(filepath.Join(file, "out"), []Info{{"a", tensor.U8, nil}}, WriterOptions{})
	wantFault(t, err, ErrOutput, file, "", "")
}

func TestAbortGivesTheEmptyDirectoryBack(t *testing.T) {
	out := t.TempDir()
	w, err := Create(out, []Info{{"a", tensor.U8, nil}}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Add("a", []byte{1}), w.Abort(), w.Abort()); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, out)
	wantTop, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(wantTop) != 1 {
		t.Errorf("beside the output: %v, %v", wantTop, err)
	}
	if err := w.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Abort: %v", err)
	}
}
