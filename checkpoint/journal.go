package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"quantize/internal/atomicfile"
	"quantize/internal/filelock"
)

// Journal keeps the finished parts of an output that is not finished, in the
// hidden directory .OUT.quantize beside OUT, where it does not stand in the way
// of the rename that makes OUT appear:
//
//	lock                        held by the process at work (internal/filelock)
//	inputs.json                 what the parts were made of
//	KEY.0123456789abcdef        a part, named by what it is and a hash of the inputs
//
// Each part is a file that appears whole or not at all and ends with its
// checksum. A nil Journal keeps nothing and has nothing.
type Journal struct {
	out     string // as given
	dir     string
	lock    *filelock.Lock
	parents []string // made here, outermost first
	warn    func(message string)
	run     string       // hash of the inputs
	guard   func() error // asked before a part is kept; nil: nothing
	failed  sync.Once    // a part could not be kept, which is told once
}

const (
	journalSuffix = ".quantize"
	lockFile      = "lock"
	inputsFile    = "inputs.json"
)

// OpenJournal locks the output out against other processes and removes what dead
// ones left half-written. out must not exist or be an empty directory. Warnings
// are for the user. The caller calls Close in the end, whatever happened.
func OpenJournal(out string, warn func(message string)) (*Journal, error) {
	place, err := resolve(out)
	if err != nil {
		return nil, outputFault(out, err)
	}
	dir, base := filepath.Split(place)
	j := &Journal{out: out, dir: filepath.Join(dir, "."+base+journalSuffix), warn: warn}
	if err := j.acquire(); err != nil {
		j.removeParents()
		return nil, err
	}
	if j.lock.Exclusive() { // else what looks dead may be at work
		if err := errors.Join(atomicfile.RemoveLeftovers(place), j.removeTemporary()); err != nil {
			return nil, errors.Join(outputFault(out, err), j.Close())
		}
	}
	if err := j.demandEmpty(place); err != nil {
		return nil, errors.Join(outputFault(out, err), j.Close())
	}
	return j, nil
}

// resolve gives the path of out without symbolic links, so that two names of
// one output have one lock.
func resolve(out string) (string, error) {
	path, err := filepath.Abs(out)
	if err != nil {
		return "", err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target, nil
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(parent, filepath.Base(path)), nil
	}
	return path, nil
}

// acquire makes the directory and locks it. An owner that ends removes the
// directory, perhaps between two of our calls.
func (j *Journal) acquire() error {
	return patiently(j.out, func() error {
		err := j.makeParents(filepath.Dir(j.dir))
		if err == nil {
			if err = os.Mkdir(j.dir, 0o777); err == nil || errors.Is(err, fs.ErrExist) {
				j.lock, err = filelock.Acquire(filepath.Join(j.dir, lockFile))
			}
		}
		return err
	})
}

func (j *Journal) makeParents(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.makeParents(filepath.Dir(dir)); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o777)
	if err == nil {
		j.parents = append(j.parents, dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // by another process, meanwhile
	}
	return err
}

func (j *Journal) removeParents() {
	for i := len(j.parents) - 1; i >= 0; i-- {
		if os.Remove(j.parents[i]) != nil {
			break // in use by now
		}
	}
}

// demandEmpty refuses an output that holds something. Where that is a finished
// one of ours, the process that moved it there died before it removed the journal.
func (j *Journal) demandEmpty(place string) error {
	entries, err := os.ReadDir(place)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	if _, err := os.Stat(filepath.Join(place, "quantize", "manifest.json")); err == nil {
		if err := j.discard(); err != nil {
			return err
		}
	}
	return &os.PathError{Op: "create", Path: place, Err: atomicfile.ErrNotEmpty}
}

// Dir is where the parts are.
func (j *Journal) Dir() string {
	if j == nil {
		return ""
	}
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, j.dir); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return j.dir
}

// Guard makes Store ask f before it keeps a part: an error of f is Store's. It is for what
// the inputs of Begin were read from and a part is made of, if that can change meanwhile.
func (j *Journal) Guard(f func() error) {
	if j != nil {
		j.guard = f
	}
}

// Close ends the work on the output. Parts stay for the next run; without any,
// nothing is left.
func (j *Journal) Close() error {
	if j == nil || j.lock == nil {
		return nil
	}
	err := j.removeTemporary()
	if j.Count("") == 0 {
		if gone := os.RemoveAll(j.dir); !errors.Is(gone, syscall.ENOTEMPTY) { // the next process has its lock there
			err = errors.Join(err, gone)
		}
		j.removeParents()
	}
	err = errors.Join(err, j.lock.Release())
	j.lock = nil
	return err
}

// Done ends the work on an output that is complete: nothing is left beside it.
func (j *Journal) Done() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.discard(), j.Close())
}

// Count is the number of parts whose key begins with prefix.
func (j *Journal) Count(prefix string) int {
	n := 0
	for _, name := range j.parts() {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// parts lists the files of the parts.
func (j *Journal) parts() []string {
	if j == nil {
		return nil
	}
	entries, _ := os.ReadDir(j.dir) // removed by the end, and then without parts
	var names []string
	for _, e := range entries {
		if name := e.Name(); name != lockFile && name != inputsFile && name[0] != '.' {
			names = append(names, name)
		}
	}
	return names
}

// discard removes all parts.
func (j *Journal) discard() error {
	err := removeIfThere(filepath.Join(j.dir, inputsFile))
	for _, name := range j.parts() {
		err = errors.Join(err, removeIfThere(filepath.Join(j.dir, name)))
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeTemporary removes parts half-written and spill files.
func (j *Journal) removeTemporary() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name()[0] == '.' {
			err = errors.Join(err, removeIfThere(filepath.Join(j.dir, e.Name())))
		}
	}
	return err
}
