//go:build !linux

package env

import "syscall"

// childAttributes: own process group. The inherited lock alone keeps a second
// build away while a child outlives its parent.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
