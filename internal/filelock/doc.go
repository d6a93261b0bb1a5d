// Package filelock holds a file for one process at a time. The lock is the
// kernel's (flock): it ends with the process that has it, however that ends, so
// that none is ever stale. The file has the number of that process, for messages.
package filelock
