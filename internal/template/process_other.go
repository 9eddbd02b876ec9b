//go:build !linux

package template

import "syscall"

func attributes() *syscall.SysProcAttr { return nil }

func proportional(int) int64 { return 0 }
