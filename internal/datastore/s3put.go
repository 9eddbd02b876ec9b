package datastore

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3 names parts by it
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/millrace/millrace/internal/fault"
)

// put stores small objects in one request, others in parts that become the object
// when all are there.
func (b *s3) put(ctx context.Context, key string, body io.Reader, c content) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return fault.Invalid("%s names no object; add a name to the URL", b.url(key))
	}
	data, err := firstPart(body, c.size)
	options := minio.PutObjectOptions{ContentType: mime.TypeByExtension(path.Ext(key))}
	if errors.Is(err, io.EOF) {
		options.DisableMultipart = true
		sum := md5.Sum(data) //nolint:gosec // see the import
		_, err = b.core.PutObject(ctx, b.name, key, bytes.NewReader(data), int64(len(data)), base64.StdEncoding.EncodeToString(sum[:]), "", options)
		return b.fail(ctx, key, err)
	}
	if err != nil {
		return err
	}
	return b.putParts(ctx, key, data, body, c, options)
}

// upload is one multipart upload.
type upload struct {
	*s3
	key, id string
	known   map[int]minio.ObjectPart // what an earlier attempt has stored

	mu    sync.Mutex
	parts []minio.CompletePart
}

func (b *s3) putParts(ctx context.Context, key string, data []byte, body io.Reader, c content, options minio.PutObjectOptions) (err error) {
	u := &upload{s3: b, key: key}
	if c.resume {
		if err := u.find(ctx); err != nil {
			return err
		}
	}
	if u.id == "" {
		if u.id, err = b.core.NewMultipartUpload(ctx, b.name, key, options); err != nil {
			return b.fail(ctx, key, err)
		}
	}
	if err = sendParts(ctx, b.url(key), data, body, c.size, u.part); err == nil {
		slices.SortFunc(u.parts, func(a, b minio.CompletePart) int { return a.PartNumber - b.PartNumber })
		_, err = b.core.CompleteMultipartUpload(ctx, b.name, key, u.id, u.parts, options)
		err = b.fail(ctx, key, err)
	}
	if err != nil && (!c.resume || fault.Is(err, fault.CodeInvalid)) {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if aborting := b.core.AbortMultipartUpload(after, b.name, key, u.id); aborting != nil && ctx.Err() == nil {
			err = errors.Join(err, b.fail(after, key, aborting))
		}
	}
	return err
}

// find takes over the newest unfinished upload of the key.
func (u *upload) find(ctx context.Context) error {
	keyMarker, idMarker := "", ""
	var newest time.Time
	for {
		page, err := u.core.ListMultipartUploads(ctx, u.name, u.key, keyMarker, idMarker, "", 1000)
		if err != nil {
			return u.fail(ctx, u.key, err)
		}
		for _, found := range page.Uploads {
			if found.Key == u.key && !found.Initiated.Before(newest) {
				u.id, newest = found.UploadID, found.Initiated
			}
		}
		if !page.IsTruncated || page.NextKeyMarker > u.key {
			break
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
	u.known = map[int]minio.ObjectPart{}
	for marker := 0; u.id != ""; {
		page, err := u.core.ListObjectParts(ctx, u.name, u.key, u.id, marker, 1000)
		if err != nil {
			return u.fail(ctx, u.key, err)
		}
		for _, part := range page.ObjectParts {
			u.known[part.PartNumber] = part
		}
		if !page.IsTruncated {
			break
		}
		marker = page.NextPartNumberMarker
	}
	return nil
}

// part uploads one part, unless it is there already.
func (u *upload) part(ctx context.Context, number int, data []byte) error {
	sum := md5.Sum(data) //nolint:gosec // see the import
	etag := hex.EncodeToString(sum[:])
	if known, ok := u.known[number]; !ok || known.Size != int64(len(data)) || strings.Trim(known.ETag, `"`) != etag {
		stored, err := u.core.PutObjectPart(ctx, u.name, u.key, u.id, number, bytes.NewReader(data), int64(len(data)),
			minio.PutObjectPartOptions{Md5Base64: base64.StdEncoding.EncodeToString(sum[:])})
		if err != nil {
			return u.fail(ctx, u.key, err)
		}
		etag = stored.ETag
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts = append(u.parts, minio.CompletePart{PartNumber: number, ETag: etag})
	return nil
}
