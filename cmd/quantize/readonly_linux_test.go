package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadOnlyFileSystem is TestReadOnlyOutput for root too, whom only the file system
// itself holds back.
func TestReadOnlyFileSystem(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Parallel()
		mountable(t)
		return
	}
	disk := tmpfs(t, 1<<20)
	dir := t.TempDir()
	writeTiny(t, filepath.Join(dir, "m"), 1)
	if err := os.Mkdir(filepath.Join(disk, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	remount(t, disk, syscall.MS_RDONLY, "")
	for _, out := range []string{"out", "new/out", "empty"} {
		refuseReadOnly(t, "run", filepath.Join(dir, "m"), "-o", filepath.Join(disk, out))
	}
	refuseReadOnly(t, "demo", "-o", filepath.Join(disk, "demo"))
	nothing(t, disk, "empty")
	nothing(t, filepath.Join(disk, "empty"))
}

func refuseReadOnly(t *testing.T, args ...string) {
	t.Helper()
	f := failing(t, programCommand(t, args...), exitFailed)
	if f.Code != "output" || f.Where == "" || f.Hint == "" || !strings.Contains(f.Message, syscall.EROFS.Error()) {
		t.Errorf("%v on a read-only disk: %+v", args, f)
	}
}
