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
	"strings"

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
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fault.NotFound("the code bundle %s is not on this machine; run or import the folder that it was made of again", name)
	} else if err != nil {
		return "", fmt.Errorf("code bundle: %w", err)
	}
	return path, nil
}

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
	out, err := os.CreateTemp(b.Dir, ".bundle-*")
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
