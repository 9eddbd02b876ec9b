//go:build !linux

package worker

import (
	"context"
	"errors"
	"os"
)

func fork(context.Context, Spec, []*os.File, [3]int, func()) (*Process, error) {
	return nil, errors.New("templates need Linux")
}
