// Package atomicfile makes files and directories appear whole or not at all.
//
//	Write:  .OUT.tmp-NNNN --write, fsync--> rename --> OUT, fsync of its directory
//	Put:    Write of what a user's path leads to: links stay, pipes and devices are written into
//	Draft:  the same, written piece by piece; Commit renames, Abort removes
//	Stage:  .OUT.tmp-NNNN/ beside OUT --Create any number of files--
//	        Commit: fsync of every directory, one rename to OUT, fsync of its parent
//	        Abort:  removes everything it made
//
// The temporary name lies beside the final one, so that both are on one file
// system and the rename is atomic (POSIX rename). Errors are those of package
// os; callers say what they mean to a user.
package atomicfile
