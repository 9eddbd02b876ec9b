package datastore

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback tells the disk to begin with a part of a file, and does not wait.
// A file system that cannot is no error: the file is synced at its end.
func startWriteback(file *os.File, offset, length int64) {
	if raw, err := file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SyncFileRange(int(fd), offset, length, unix.SYNC_FILE_RANGE_WRITE)
		})
	}
}
