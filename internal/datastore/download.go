package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/fault"
)

// Opener returns the bytes of an object that r selects, as Stores.Open does.
type Opener func(ctx context.Context, r Range) (io.ReadCloser, Info, error)

// DownloadOptions say what is known about the content.
type DownloadOptions struct {
	Digest, SHA1, CRC64 string // what the content has to have; "" does not ask
	Sums                Sums   // what Written has to tell; what is compared is summed in any case
	// Progress is told the bytes that are there and how many there will be, -1 when
	// that is not known; may be nil.
	Progress func(done, total int64)
}

// Download writes an object to the file dest, which appears when it is complete
// and what it has to be. A download that was broken off leaves a partial file
// beside dest, with a note of what it is a part of, and the next one goes on there
// if the object is still the same; one that there was no room for leaves nothing.
func Download(ctx context.Context, open Opener, dest string, options DownloadOptions) (Written, error) {
	if info, err := os.Stat(dest); err == nil && !info.Mode().IsRegular() {
		return Written{}, fault.Invalid("%s exists and is not a regular file; choose another name", dest)
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o777); err != nil {
		return Written{}, fileError(dest, err)
	}
	d := &download{dest: dest, part: filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+".part"), options: options}
	written, err := d.run(ctx, open)
	if fault.Is(err, fault.CodePrecondition) { // another object now
		if err := d.forget(); err != nil {
			return Written{}, err
		}
		written, err = d.run(ctx, open)
	}
	if isNoRoom(err) {
		err = errors.Join(fileError(dest, err), d.forget())
	}
	written.URL = dest
	return written, fileError(dest, err)
}

type download struct {
	dest, part string
	options    DownloadOptions
}

func (d *download) note() string { return d.part + ".json" }

// forget removes what an earlier download has left.
func (d *download) forget() error {
	return fileError(d.part, errors.Join(ignoreMissing(os.Remove(d.part)), ignoreMissing(os.Remove(d.note()))))
}

// begun is the note beside a partial file.
type begun struct {
	ETag string `json:"etag"`
	Size int64  `json:"size"`
}

// resume returns where to go on.
func (d *download) resume() Range {
	raw, err := os.ReadFile(d.note())
	var note begun
	if err != nil || json.Unmarshal(raw, &note) != nil || note.ETag == "" {
		return Range{}
	}
	info, err := os.Stat(d.part)
	if err != nil || info.Size() > note.Size {
		return Range{}
	}
	// At least one byte is asked for: a range that begins at the end is an error to
	// many servers.
	return Range{Offset: max(min(info.Size(), note.Size-1), 0), ETag: note.ETag}
}

func (d *download) run(ctx context.Context, open Opener) (Written, error) {
	from := d.resume()
	if from.Offset == 0 {
		if err := d.forget(); err != nil {
			return Written{}, err
		}
	}
	body, info, err := open(ctx, from)
	if err != nil {
		return Written{}, err
	}
	defer body.Close()
	if from.Offset == 0 && info.ETag != "" && info.Size >= 0 {
		raw, err := json.Marshal(begun{ETag: info.ETag, Size: info.Size})
		if err != nil {
			return Written{}, err
		}
		if err := os.WriteFile(d.note(), raw, 0o600); err != nil {
			return Written{}, err
		}
	}
	file, err := os.OpenFile(d.part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return Written{}, err
	}
	defer file.Close()
	written, err := d.fill(ctx, file, body, from.Offset, info)
	if err != nil {
		return Written{}, err
	}
	if err := file.Close(); err != nil {
		return Written{}, err
	}
	if err := d.verify(written, info); err != nil {
		return Written{}, errors.Join(err, d.forget())
	}
	if err := os.Rename(d.part, d.dest); err != nil {
		return Written{}, err
	}
	return written, d.forget()
}

// sums are those that somebody asks for.
func (d *download) sums(info Info) Sums {
	sums := d.options.Sums
	if sums == 0 {
		return 0
	}
	if d.options.Digest != "" || info.Digest != "" {
		sums |= SHA256
	}
	if d.options.SHA1 != "" {
		sums |= SHA1
	}
	if d.options.CRC64 != "" {
		sums |= CRC64
	}
	return sums
}

// fill appends body to the offset bytes that the file has, and sums all.
func (d *download) fill(ctx context.Context, file *os.File, body io.Reader, offset int64, info Info) (Written, error) {
	sums := newSummer(d.sums(info))
	defer sums.stop()
	done := int64(0)
	reader := &checkedReader{ctx: ctx, from: file, sums: sums, want: -1, progress: func(n int64) {
		if done += n; d.options.Progress != nil {
			d.options.Progress(done, info.Size)
		}
	}}
	if err := reader.skip(offset); err != nil {
		return Written{}, err
	}
	reader.from, reader.want = body, info.Size
	if _, err := reader.WriteTo(file); err != nil { // not synced, as little as cp does it
		return Written{}, err
	}
	return reader.written, nil
}

func (d *download) verify(written Written, info Info) error {
	for _, check := range []struct{ want, got string }{
		{d.options.Digest, written.Digest}, {info.Digest, written.Digest}, {d.options.SHA1, written.SHA1}, {d.options.CRC64, written.CRC64},
	} {
		if check.want != "" && check.want != check.got {
			return fault.Precondition("%s was to have the sum %s and has %s; nothing is kept", d.dest, check.want, check.got)
		}
	}
	return nil
}
