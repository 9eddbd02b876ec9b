//go:build !linux

package store

import "os"

// dataSync waits until the file is on the disk.
func dataSync(file *os.File) error { return file.Sync() }
