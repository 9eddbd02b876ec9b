package datastore

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Azure checks what it receives by it
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/millrace/millrace/internal/fault"
)

// put stores small objects in one request, others in blocks that become the object
// when all are there. Blocks that never do are removed by the service after a week.
func (b *azure) put(ctx context.Context, key string, body io.Reader, c content) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return fault.Invalid("%s names no object; add a name to the URL", b.url(key))
	}
	data, err := firstPart(body, c.size)
	kind := contentTypeOf(key)
	to := b.client.NewBlockBlobClient(key)
	if errors.Is(err, io.EOF) {
		sum := md5.Sum(data) //nolint:gosec // see the import
		_, err = to.Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
			HTTPHeaders: &blob.HTTPHeaders{BlobContentType: &kind}, TransactionalValidation: blob.TransferValidationTypeMD5(sum[:]),
		})
		return b.fail(ctx, key, err)
	}
	if err != nil {
		return err
	}
	u := &azureUpload{azure: b, to: to, key: key, known: map[string]bool{}}
	if c.resume {
		if err := u.find(ctx); err != nil {
			return err
		}
	}
	if err := sendParts(ctx, b.url(key), data, body, c.size, u.part); err != nil {
		return err
	}
	_, err = to.CommitBlockList(ctx, u.blocks, &blockblob.CommitBlockListOptions{HTTPHeaders: &blob.HTTPHeaders{BlobContentType: &kind}})
	return b.fail(ctx, key, err)
}

// azureUpload is an upload in blocks. The name of a block holds its sum, so that
// one that is there already is known to have the right bytes.
type azureUpload struct {
	*azure
	to    *blockblob.Client
	key   string
	known map[string]bool // what an earlier attempt has stored

	mu     sync.Mutex
	blocks []string
}

// find looks for blocks that are not part of an object yet.
func (u *azureUpload) find(ctx context.Context) error {
	list, err := u.to.GetBlockList(ctx, blockblob.BlockListTypeUncommitted, nil)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		return nil
	}
	if err != nil {
		return u.fail(ctx, u.key, err)
	}
	for _, block := range list.UncommittedBlocks {
		u.known[blockKey(valueOf(block.Name), valueOf(block.Size))] = true
	}
	return nil
}

func blockKey(name string, size int64) string { return fmt.Sprintf("%s %d", name, size) }

// part uploads one block, unless it is there already.
func (u *azureUpload) part(ctx context.Context, number int, data []byte) error {
	sum := md5.Sum(data) //nolint:gosec // see the import
	name := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%05d-%s", number, hex.EncodeToString(sum[:])))
	if !u.known[blockKey(name, int64(len(data)))] {
		_, err := u.to.StageBlock(ctx, name, streaming.NopCloser(bytes.NewReader(data)), &blockblob.StageBlockOptions{
			TransactionalValidation: blob.TransferValidationTypeMD5(sum[:]),
		})
		if err != nil {
			return u.fail(ctx, u.key, err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.blocks) < number {
		u.blocks = append(u.blocks, "")
	}
	u.blocks[number-1] = name
	return nil
}
