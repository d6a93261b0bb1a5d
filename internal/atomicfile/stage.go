package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNotEmpty says that the final place of a [Stage] holds something.
var ErrNotEmpty = errors.New("exists and is not an empty directory")

// Stage is a directory under construction. Its methods are not safe for
// concurrent use; writing to its files is.
type Stage struct {
	disk    Disk
	out     string      // final path, symbolic links resolved
	tmp     string      // where the files are now
	dirs    []string    // directories inside tmp, parents first
	parents []string    // parents of out made here, outermost first
	hadOut  bool        // out was an empty directory
	mode    fs.FileMode // of that
	over    bool        // committed or aborted
}

// NewStage starts the directory out on this disk. out must not exist or be an
// empty directory, which is removed (that shows early that Commit can take its
// place: a mount point, for one, cannot be replaced) and comes back on Abort; its
// mode holds for the new directory too, from the start. Missing parents are made.
func (d Disk) NewStage(out string) (*Stage, error) {
	out, err := filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	s := &Stage{disk: d, out: out}
	if err := s.clear(); err != nil {
		return nil, err
	}
	err = s.makeParents(filepath.Dir(s.out))
	if err == nil {
		s.tmp = tempName(s.out)
		err = d.Mkdir(s.tmp)
	}
	if err == nil && s.hadOut {
		err = setMode(s.tmp, s.mode|0o700) // files are still to be made in it
	}
	if err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	return s, nil
}

// clear demands that nothing is in the way at out.
func (s *Stage) clear() error {
	if _, err := os.Lstat(s.out); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	resolved, err := filepath.EvalSymlinks(s.out)
	if err != nil {
		return err
	}
	s.out = resolved
	entries, err := os.ReadDir(s.out)
	if errors.Is(err, syscall.ENOTDIR) || len(entries) > 0 {
		return &os.PathError{Op: "create", Path: s.out, Err: ErrNotEmpty}
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(s.out)
	if err != nil {
		return err
	}
	if err := os.Remove(s.out); err != nil {
		return err
	}
	s.hadOut, s.mode = true, st.Mode()&permissions
	return nil
}

const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// setMode changes only what differs: some file systems have one mode for all.
func setMode(dir string, mode fs.FileMode) error {
	st, err := os.Stat(dir)
	if err != nil || st.Mode()&permissions == mode {
		return err
	}
	return os.Chmod(dir, mode)
}

func (s *Stage) makeParents(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.makeParents(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := s.disk.Mkdir(dir); err != nil {
		return err
	}
	s.parents = append(s.parents, dir)
	return nil
}

// Out is the final path.
func (s *Stage) Out() string { return s.out }

// Dir is where the files are before Commit.
func (s *Stage) Dir() string { return s.tmp }

// Create makes a new file at the slash-separated relative path rel, with its
// directories. The caller syncs and closes it before Commit.
func (s *Stage) Create(rel string) (File, error) {
	if s.over {
		return nil, fs.ErrClosed
	}
	if !fs.ValidPath(rel) || rel == "." || !filepath.IsLocal(filepath.FromSlash(rel)) {
		return nil, &os.PathError{Op: "create", Path: rel, Err: fs.ErrInvalid}
	}
	path := filepath.Join(s.tmp, filepath.FromSlash(rel))
	if err := s.makeDirs(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return s.disk.Create(path)
}

func (s *Stage) makeDirs(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	s.dirs = append(s.dirs, dir)
	return s.disk.Mkdir(dir)
}

// Reserve is the disk's Reserve.
func (s *Stage) Reserve(f File, size int64) error { return s.disk.Reserve(f, size) }

// Commit moves the directory to its final path. After an error that left the
// files in place it may be called again, or Abort.
func (s *Stage) Commit() error {
	if s.over {
		return fs.ErrClosed
	}
	for i := len(s.dirs) - 1; i >= 0; i-- {
		if err := s.disk.SyncDir(s.dirs[i]); err != nil {
			return err
		}
	}
	if err := s.disk.SyncDir(s.tmp); err != nil {
		return err
	}
	if err := s.disk.Rename(s.tmp, s.out); err != nil {
		return err
	}
	s.over = true
	var err error
	if s.hadOut {
		err = setMode(s.out, s.mode)
	}
	err = errors.Join(err, s.disk.SyncDir(filepath.Dir(s.out)))
	for i := len(s.parents) - 1; i >= 0; i-- {
		err = errors.Join(err, s.disk.SyncDir(filepath.Dir(s.parents[i])))
	}
	return err
}

// Abort removes all that the stage made and puts an empty directory back where
// one was. After Commit it does nothing.
func (s *Stage) Abort() error {
	if s.over {
		return nil
	}
	s.over = true
	var err error
	if s.tmp != "" {
		err = os.RemoveAll(s.tmp)
	}
	if s.hadOut {
		made := os.Mkdir(s.out, 0o700)
		if made == nil {
			made = setMode(s.out, s.mode)
		}
		err = errors.Join(err, made)
	}
	for i := len(s.parents) - 1; i >= 0; i-- {
		if os.Remove(s.parents[i]) != nil {
			break // somebody else uses it by now
		}
	}
	return err
}
