package datastore

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Copied is what a copy has moved. The sums are those of the one file, empty for a
// folder.
type Copied struct {
	Files        int
	Size         int64
	Digest, SHA1 string
}

// Copy moves the content of from to to, byte for byte; with recursive a folder,
// whose files become visible one by one, each when it is complete. progress, which
// may be nil, is told the bytes as they pass.
func (s *Stores) Copy(ctx context.Context, from, to string, recursive bool, progress func(int64)) (Copied, error) {
	source, err := s.place(ctx, from)
	if err != nil {
		return Copied{}, err
	}
	target, err := s.place(ctx, to)
	if err != nil {
		return Copied{}, err
	}
	if !recursive {
		written, err := copyOne(ctx, source, target, progress)
		return Copied{Files: 1, Size: written.Size, Digest: written.Digest, SHA1: written.SHA1}, err
	}
	if sameBucket(source.bucket, target.bucket) && strings.HasPrefix(target.key+"/", source.key+"/") {
		return Copied{}, fault.Invalid("%s cannot be copied into itself, %s", from, to)
	}
	var out Copied
	err = source.bucket.walk(ctx, source.key, true, func(entry Entry) error {
		if entry.Dir {
			return nil
		}
		if !filepath.IsLocal(entry.Name) {
			return fault.Invalid("%s holds the name %q, which leads out of a folder; nothing is written for it", from, entry.Name)
		}
		written, err := copyOne(ctx, source.below(entry.Name), target.below(entry.Name), progress)
		out.Files++
		out.Size += written.Size
		return err
	})
	return out, err
}

func (p place) below(name string) place {
	return place{bucket: p.bucket, key: path.Join(p.key, name), url: strings.TrimRight(p.url, "/") + "/" + name}
}

func copyOne(ctx context.Context, from, to place, progress func(int64)) (Written, error) {
	body, info, err := from.bucket.open(ctx, from.key, Range{})
	if err != nil {
		return Written{}, err
	}
	defer body.Close()
	return put(ctx, to, body, PutOptions{Size: info.Size, Progress: progress})
}

func sameBucket(a, b bucket) bool {
	_, aFiles := a.(files)
	_, bFiles := b.(files)
	return aFiles && bFiles || !aFiles && !bFiles && a == b
}
