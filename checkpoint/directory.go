package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"quantize/internal/fault"
)

// maxJSON is the largest config.json or index that is read.
const maxJSON = 100_000_000

// directory is a checkpoint directory that no path leaves, not by symbolic
// links either: [os.Root] holds it.
//
// The snapshots of the Hugging Face cache are links into the blobs folder of
// the same repository, so there the repository is the root:
//
//	models--org--name/blobs/<hash>
//	models--org--name/snapshots/<revision>/model.safetensors -> ../../blobs/<hash>
type directory struct {
	dir    string // as given, for messages
	root   *os.Root
	prefix string // of dir below root
}

func openDirectory(dir string) (*directory, error) {
	fail := func(err error) (*directory, error) {
		f := &fault.Error{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Where: dir, Wanted: "a Hugging Face checkpoint directory"}
		if errors.Is(err, fs.ErrNotExist) {
			f.Hint = "check the path; models are not downloaded"
		}
		return nil, f
	}
	path, err := filepath.Abs(dir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return fail(err)
	}
	top, prefix := path, "."
	snapshots := filepath.Dir(path)
	repository := filepath.Dir(snapshots)
	if filepath.Base(snapshots) == "snapshots" && isDir(filepath.Join(repository, "blobs")) {
		top, prefix = repository, filepath.Join("snapshots", filepath.Base(path))
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return fail(err)
	}
	return &directory{dir: dir, root: root, prefix: prefix}, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// Close releases the directory.
func (d *directory) Close() error { return d.root.Close() }

// path is the name of a file for messages.
func (d *directory) path(rel string) string { return filepath.Join(d.dir, filepath.FromSlash(rel)) }

func (d *directory) below(rel string) string {
	return filepath.Join(d.prefix, filepath.FromSlash(rel))
}

func (d *directory) exists(rel string) bool {
	_, err := d.root.Lstat(d.below(rel))
	return err == nil
}

// open opens a regular file and gives its size.
func (d *directory) open(rel string) (*os.File, int64, error) {
	st, err := d.root.Stat(d.below(rel)) // before opening: a named pipe would block
	if err != nil {
		return nil, 0, d.openFault(rel, err)
	}
	if !st.Mode().IsRegular() {
		return nil, 0, &fault.Error{Err: ErrInvalid, Where: d.path(rel), Found: "a " + kind(st.Mode()), Wanted: "a regular file", Hint: "put the file in its place: download it again"}
	}
	f, err := d.root.Open(d.below(rel))
	if err != nil {
		return nil, 0, d.openFault(rel, err)
	}
	if st, err = f.Stat(); err != nil {
		return nil, 0, errors.Join(readFault(d.path(rel), err), f.Close())
	}
	return f, st.Size(), nil
}

func kind(m fs.FileMode) string {
	if m.IsDir() {
		return "directory"
	}
	return "special file"
}

func (d *directory) openFault(rel string, err error) error {
	f := &fault.Error{Err: fmt.Errorf("%w: %w", ErrInvalid, err), Where: d.path(rel)}
	st, lerr := d.root.Lstat(d.below(rel))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Hint = "the checkpoint is incomplete: download it again"
		if lerr == nil { // the name is there: a link to nothing
			f.Found, f.Wanted = "a symbolic link to a file that does not exist", "the file"
		}
	case errors.Is(err, fs.ErrPermission):
		f.Hint = "make the file readable"
	case lerr == nil && st.Mode()&fs.ModeSymlink != 0:
		f.Found, f.Wanted = "a symbolic link that leaves the directory", "a file inside it"
		f.Hint = "copy the file here, or name the directory that holds it"
	}
	return f
}

// readFile reads a small file whole.
func (d *directory) readFile(rel string) ([]byte, error) { return d.readAll(rel, maxJSON) }

// Files that are not copied beside new weights: weights in any format, and what
// describes how the source was quantized, which is not true of the output.
var (
	weightExts = []string{shardExt, ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".tflite", ".ot", ".ckpt", ".index.json"}
	ours       = []string{configFile, "hf_quant_config.json", "quantize_config.json", "quant_config.json"}
	ourDirs    = []string{"quantize", "w4a16"}
)

// others lists the files to copy, sorted.
func (d *directory) others() ([]string, error) {
	var list []string
	sub, err := fs.Sub(d.root.FS(), filepath.ToSlash(d.prefix))
	if err != nil {
		return nil, readFault(d.dir, err)
	}
	err = fs.WalkDir(sub, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		switch name := e.Name(); {
		case e.IsDir() && (name[0] == '.' || slices.Contains(ourDirs, path)):
			return fs.SkipDir
		case e.IsDir() || name[0] == '.' || slices.Contains(ours, path):
		case slices.ContainsFunc(weightExts, func(ext string) bool { return strings.HasSuffix(name, ext) }):
		case e.Type()&^fs.ModeSymlink != 0: // neither a file nor a link to one
		case e.Type() == fs.ModeSymlink && d.linksToDir(path):
		default:
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		return nil, readFault(d.dir, err)
	}
	slices.Sort(list) // WalkDir sorts within a directory only
	return list, nil
}

// linksToDir reports whether a link leads to a directory; a broken one or one
// that leaves does not, and copying it says so.
func (d *directory) linksToDir(rel string) bool {
	st, err := d.root.Stat(d.below(rel))
	return err == nil && st.IsDir()
}
