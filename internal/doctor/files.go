package doctor

import (
	"context"

	"golang.org/x/sys/unix"
)

// OpenFiles checks how many files the server may have open: each running
// function and each connected client takes some.
type OpenFiles struct{}

const (
	leastFiles = 256
	goodFiles  = 1024
)

// Name implements Check.
func (OpenFiles) Name() string { return "open files" }

// Check implements Check. The Go runtime raises the soft limit to the hard one by
// itself, so what is read here is what the server gets.
func (OpenFiles) Check(context.Context) Finding {
	const remedy = "raise the limit (ulimit -n, or LimitNOFILE in the systemd unit)"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return warn(remedy, "the limit cannot be read: %v", err)
	}
	switch {
	case limit.Cur < leastFiles:
		return fail(remedy, "at most %d", limit.Cur)
	case limit.Cur < goodFiles:
		return warn(remedy, "at most %d", limit.Cur)
	}
	return ok("at most %d", limit.Cur)
}
