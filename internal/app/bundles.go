package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// bundles keeps the code of folders on this machine, and where several servers may use
// the database also there, so that each of them has what was sent to one.
type bundles struct {
	code.Bundles
	store *store.Store
}

func (a *App) bundles() bundles {
	return bundles{code.Bundles{Dir: filepath.Join(a.dir, "bundles")}, a.store}
}

// fetchTime bounds the copying of a bundle from or to the database.
const fetchTime = 5 * time.Minute

// Path is code.Bundles.Path; one that another server has is brought here.
func (b bundles) Path(name string) (string, error) {
	last := b.lastUse(name)
	path, err := b.Bundles.Path(name)
	if err == nil && b.store.Shared() && time.Since(last) > bundleAge/2 {
		return path, b.share(name, path) // it may have gone there, where it was not asked for
	}
	if !fault.Is(err, fault.CodeNotFound) || !b.store.Shared() {
		return path, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	read, write := io.Pipe()
	copied := make(chan error, 1)
	go func() {
		err := b.store.BundleGet(ctx, name, write)
		write.CloseWithError(err) // nil is the end
		copied <- err
	}()
	_, kept := b.Bundles.Put(name, read)
	read.Close() // whoever still writes is told so
	if failed := <-copied; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		if fault.Is(failed, fault.CodeNotFound) {
			return "", err
		}
		return "", fmt.Errorf("fetch code bundle: %w", failed)
	}
	if kept != nil {
		return "", kept
	}
	return b.Bundles.Path(name)
}

// Resolve is code.Bundles.Resolve.
func (b bundles) Resolve(source string) (string, error) {
	if name, ok := code.BundleName(source); ok {
		return b.Path(name)
	}
	return source, nil
}

// Put is code.Bundles.Put.
func (b bundles) Put(name string, from io.Reader) (fresh bool, err error) {
	fresh, err = b.Bundles.Put(name, from)
	if err != nil || !b.store.Shared() {
		return fresh, err
	}
	path, err := b.Bundles.Path(name)
	if err != nil {
		return false, err
	}
	return fresh, b.share(name, path)
}

// share puts a bundle that is here into the database, if it is not there.
func (b bundles) share(name, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("share code bundle: %w", err)
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	return b.store.BundlePut(ctx, name, file)
}

// lastUse is when a bundle that is here was last asked for, as far as that is noted.
func (b bundles) lastUse(name string) time.Time {
	info, err := os.Stat(filepath.Join(b.Dir, name+".tar.gz"))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// prune removes the bundles that no stored function names, when nobody has asked for
// them since age.
func (b bundles) prune(ctx context.Context, age time.Duration) (int, error) {
	named := func() (map[string]bool, error) { return b.store.BundlesNamed(ctx) }
	removed, err := b.Prune(age, named)
	if err != nil || !b.store.Shared() {
		return removed, err
	}
	shared, err := b.store.BundlePrune(ctx, time.Now().Add(-age), named)
	return removed + shared, err
}
