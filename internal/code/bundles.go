package code

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// Bundles is a folder of bundles, each named by its digest, so that what is there
// is whole and never changes. Several processes may use it at once.
type Bundles struct {
	Dir string // made by Put when it is not there
	Max int64  // bytes of a bundle that Put takes; 0 means DefaultMaxBundle
}

// Source is how a function refers to the bundle wherever it is kept: a
// spec.build.source that means the same on every machine.
func (b *Bundle) Source() string { return function.SchemeBundle + bundleName(b.Digest) }

const digestPrefix = "sha256-"

func bundleName(digest string) string { return digestPrefix + digest }

// BundleName returns the name, sha256-<hex>, of the bundle that a source refers
// to, and false when the source refers to none.
func BundleName(source string) (string, bool) {
	return strings.CutPrefix(source, function.SchemeBundle)
}

// checkName refuses what is not the name of a bundle, with fault.CodeInvalid.
func checkName(name string) error {
	digest, ok := strings.CutPrefix(name, digestPrefix)
	if raw, err := hex.DecodeString(digest); !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(digest) != digest {
		return fault.Invalid("%.100q is not the name of a bundle: sha256- and 64 hexadecimal digits in lower case", name)
	}
	return nil
}

// Path returns where the bundle is; fault.CodeNotFound when it is not here.
func (b Bundles) Path(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	path := filepath.Join(b.Dir, name+".tar.gz")
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.NotFound("the code bundle %s is not on this machine; run or import the folder that it was made of again", name)
	} else if err != nil {
		return "", fmt.Errorf("code bundle: %w", err)
	}
	use(path, info)
	return path, nil
}

// fresh is how long the time of a bundle's last use may be wrong.
const fresh = time.Hour

// use notes that somebody counts on a bundle, so that Prune leaves it for a while.
func use(path string, info fs.FileInfo) {
	if now := time.Now(); now.Sub(info.ModTime()) > fresh {
		_ = os.Chtimes(path, now, now) // of another owner: it is kept as long as it is named
	}
}

// Prune removes the bundles that named does not have and that nobody has stored or
// asked for since age, and unfinished uploads as old. named is not called when there
// is nothing old.
func (b Bundles) Prune(age time.Duration, named func() (map[string]bool, error)) (removed int, err error) {
	entries, err := os.ReadDir(b.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("prune bundles: %w", err)
	}
	old := func(entry fs.DirEntry) bool {
		info, err := os.Lstat(filepath.Join(b.Dir, entry.Name()))
		return err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > age
	}
	if entries = slices.DeleteFunc(entries, func(entry fs.DirEntry) bool { return !old(entry) }); len(entries) == 0 {
		return 0, nil
	}
	kept, err := named()
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		name, isBundle := strings.CutSuffix(entry.Name(), ".tar.gz")
		isBundle = isBundle && checkName(name) == nil
		unfinished := strings.HasPrefix(entry.Name(), unfinishedPrefix)
		// Looked at again: somebody may have asked for it meanwhile.
		if !unfinished && !isBundle || kept[name] || !old(entry) {
			continue
		}
		if err := os.Remove(filepath.Join(b.Dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("prune bundles: %w", err)
		}
		removed++
	}
	return removed, nil
}

// unfinishedPrefix begins the names of bundles that are being received.
const unfinishedPrefix = ".bundle-"

// Resolve returns the path of the bundle that a source refers to, and any other
// source as it is.
func (b Bundles) Resolve(source string) (string, error) {
	if name, ok := BundleName(source); ok {
		return b.Path(name)
	}
	return source, nil
}

// Put stores a bundle under its name and reports whether it was new; one that is
// there already is not read. Nothing is to be seen of it until it is whole and
// durable. fault.CodeInvalid when the bytes have another digest than the name
// says, fault.CodeTooLarge when there are too many.
func (b Bundles) Put(name string, from io.Reader) (fresh bool, err error) {
	if _, err := b.Path(name); err == nil || !fault.Is(err, fault.CodeNotFound) {
		return false, err
	}
	path := filepath.Join(b.Dir, name+".tar.gz")
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return false, fmt.Errorf("store bundle: %w", err)
	}
	out, err := os.CreateTemp(b.Dir, unfinishedPrefix+"*")
	if err != nil {
		return false, fmt.Errorf("store bundle: %w", err)
	}
	defer os.Remove(out.Name()) // fails once it is renamed
	limit := b.Max
	if limit == 0 {
		limit = DefaultMaxBundle
	}
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(out, digest), io.LimitReader(from, limit+1))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return false, fmt.Errorf("store bundle: %w", err)
	}
	if size > limit {
		return false, fault.TooLarge("the bundle has more than %d bytes; name what the code does not need in .millraceignore", limit)
	}
	if got := bundleName(hex.EncodeToString(digest.Sum(nil))); got != name {
		return false, fault.Invalid("the %d bytes received are the bundle %s and not %s; send it again", size, got, name)
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return false, fmt.Errorf("store bundle: %w", err)
	}
	return true, nil
}
