package datastore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Inbox receives content over connections that may break. What has arrived of an
// upload is kept under the token that its sender has chosen, so that it goes on
// there; when all has arrived it becomes an object named by its content.
type Inbox struct {
	stores *Stores
	dir    string
	mu     sync.Mutex
	busy   map[string]bool
}

// NewInbox keeps unfinished uploads in dir and puts finished ones into stores.
func NewInbox(stores *Stores, dir string) *Inbox {
	return &Inbox{stores: stores, dir: dir, busy: map[string]bool{}}
}

var tokenPattern = lazyregexp.New(`^[0-9a-f]{32,64}$`)

// Upload is one request of an upload.
type Upload struct {
	Token  string // 32 to 64 hex digits
	Folder string // where the object is put, a URL or path
	Suffix string // of its name, with the dot
	Offset int64  // where the body begins; all before it has been sent
	Length int64  // of the body; -1 when its end is that of the content
	Name   string // below Folder; "" means the SHA-1 of the content and Suffix
	SHA1   string // what the content has to have; "" does not ask
}

func (in *Inbox) path(token string) (string, error) {
	if !tokenPattern.MatchString(token) {
		return "", fault.Invalid("upload: the token has to be 32 to 64 hexadecimal digits")
	}
	return filepath.Join(in.dir, token), nil
}

// Have returns how many bytes of an upload have arrived, 0 for an unknown one.
func (in *Inbox) Have(token string) (int64, error) {
	path, err := in.path(token)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// claim makes the caller the only one who receives the upload.
func (in *Inbox) claim(token string) (release func(), err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy[token] {
		return nil, fault.Conflict("this upload is being received from another connection; wait until that has ended")
	}
	in.busy[token] = true
	return func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		delete(in.busy, token)
	}, nil
}

// Receive takes the rest of an upload and stores the object. When body breaks off,
// what came of it is kept; when there is no room for it, nothing is.
func (in *Inbox) Receive(ctx context.Context, u Upload, body io.Reader) (Written, error) {
	path, err := in.path(u.Token)
	if err == nil && u.Name != "" {
		err = CheckName(u.Name)
	}
	if err != nil {
		return Written{}, err
	}
	release, err := in.claim(u.Token)
	if err != nil {
		return Written{}, err
	}
	defer release()
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return Written{}, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666) // in a folder of ours alone; the object keeps the mode
	if err != nil {
		return Written{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Written{}, err
	}
	if u.Offset < 0 || u.Offset > info.Size() {
		return Written{}, fault.Conflict("upload: %d bytes have arrived, so it cannot go on at %d; ask where it stands", info.Size(), u.Offset)
	}
	if err := file.Truncate(u.Offset); err != nil {
		return Written{}, err
	}
	written, err := in.take(ctx, file, u, body)
	if isNoRoom(err) { // what came would keep the disk full, and everybody else from writing
		return Written{}, errors.Join(err, ignoreMissing(os.Remove(path)))
	}
	if err != nil {
		return Written{}, err
	}
	if u.SHA1 != "" && u.SHA1 != written.SHA1 {
		err := fault.Invalid("the content that was sent has the SHA-1 %s, not %s; send it again", written.SHA1, u.SHA1)
		return Written{}, errors.Join(err, ignoreMissing(os.Remove(path)))
	}
	return in.deliver(ctx, path, u, written)
}

// CheckName refuses a name that cannot be one of a file below a folder of artifacts;
// fault.CodeInvalid.
func CheckName(name string) error {
	if len(name) > 1024 || !filepath.IsLocal(name) || path.Clean(name) != name || name == "." || strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }) {
		return fault.Invalid("%.200q is not the name of a file below a folder, such as data/part-1.csv", name)
	}
	return nil
}

// Stored returns the size of the object called name below folder, -1 when there is
// none.
func (in *Inbox) Stored(ctx context.Context, folder, name string) (int64, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	info, err := in.stores.Stat(ctx, folder+"/"+name)
	if fault.Is(err, fault.CodeNotFound) {
		return -1, nil
	}
	return info.Size, err
}

// same tells whether the object at target is what was written. Another one is
// fault.CodeConflict: what has a name keeps it.
func (in *Inbox) same(ctx context.Context, target place, written Written) (bool, error) {
	body, _, err := target.bucket.open(ctx, target.key, Range{})
	if fault.Is(err, fault.CodeNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	there, err := Sum(ctx, body, SHA1, nil)
	if err := errors.Join(err, body.Close()); err != nil {
		return false, err
	}
	if there.SHA1 != written.SHA1 {
		return false, fault.Conflict("%s is there with other content, which stays", target.url)
	}
	return true, nil
}

// sums are those that name content and that its sender compares; stores of objects
// are told its digest, too.
func (in *Inbox) sums(ctx context.Context, folder string) (Sums, error) {
	at, err := in.stores.place(ctx, strings.TrimRight(folder, "/")+"/content")
	if err != nil {
		return 0, err
	}
	if _, ok := at.bucket.(files); ok {
		return SHA1 | CRC64, nil
	}
	return SHA1 | CRC64 | SHA256, nil
}

// take appends body to the file and sums all of it.
func (in *Inbox) take(ctx context.Context, file *os.File, u Upload, body io.Reader) (Written, error) {
	which, err := in.sums(ctx, u.Folder)
	if err != nil {
		return Written{}, err
	}
	sums := newSummer(which)
	defer sums.stop()
	total := int64(-1)
	if u.Length >= 0 {
		total = u.Offset + u.Length
	}
	reader := &checkedReader{ctx: ctx, from: file, sums: sums, want: -1}
	if err := reader.skip(u.Offset); err != nil {
		return Written{}, err
	}
	reader.from, reader.want = body, total
	_, err = reader.WriteTo(&steady{file: file, from: u.Offset, until: u.Offset})
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		if fault.CodeOf(err) == fault.CodeInternal && reader.err != nil && !errors.Is(reader.err, io.EOF) && ctx.Err() == nil {
			return Written{}, fault.Invalid("the request ended before its body did: %v; go on where the upload stands", err)
		}
		return Written{}, fileError(u.Folder, err)
	}
	return reader.written, nil
}

// deliver makes an object of the file at path.
func (in *Inbox) deliver(ctx context.Context, path string, u Upload, written Written) (Written, error) {
	name := written.SHA1 + u.Suffix
	if u.Name != "" {
		name = u.Name
	}
	target, err := in.stores.place(ctx, u.Folder+"/"+name)
	if err != nil {
		return Written{}, err
	}
	if u.Name != "" {
		if same, err := in.same(ctx, target, written); err != nil || same {
			written.URL = target.url
			return written, errors.Join(err, ignoreMissing(os.Remove(path)))
		}
	}
	if f, ok := target.bucket.(files); ok {
		switch err := f.adopt(path, target.key); {
		case err == nil:
			written.URL = target.key
			return written, nil
		case !errors.Is(err, errOtherDevice):
			return Written{}, err
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return Written{}, err
	}
	defer file.Close()
	stored, err := put(ctx, target, file, PutOptions{Size: written.Size, Digest: written.Digest, Sums: SHA1 | CRC64})
	if err == nil && stored.SHA1 != written.SHA1 { // there is no digest where a file goes to another disk
		err = fault.Unavailable("%s was read back with another sum than it arrived with; send it again", path)
	}
	if err != nil {
		return Written{}, err
	}
	return stored, ignoreMissing(os.Remove(path))
}

// Sweep removes uploads that nothing has been added to for longer than age.
func (in *Inbox) Sweep(age time.Duration) error {
	entries, err := os.ReadDir(in.dir)
	if err != nil {
		return ignoreMissing(err)
	}
	var errs []error
	for _, entry := range entries {
		release, err := in.claim(entry.Name())
		if err != nil {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > age {
			errs = append(errs, ignoreMissing(os.Remove(filepath.Join(in.dir, entry.Name()))))
		}
		release()
	}
	return errors.Join(errs...)
}
