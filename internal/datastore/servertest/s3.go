package servertest

import (
	"context"
	"os"
	"path/filepath"
)

const (
	s3Module  = "github.com/versity/versitygw/cmd/versitygw"
	s3Version = "v1.8.0"
)

// S3Key and S3Secret are the credentials that the S3 server accepts.
const S3Key, S3Secret = "millrace-test", "millrace-secret"

// S3 starts Versity's gateway, which keeps its buckets below the folder dir.
func S3(ctx context.Context, dir string) (*Server, error) {
	binary, err := goInstalled(ctx, s3Module, s3Version)
	if err != nil {
		return nil, err
	}
	address, _, err := freeAddress()
	if err != nil {
		return nil, err
	}
	root, meta := filepath.Join(dir, "s3"), filepath.Join(dir, "meta")
	versions := filepath.Join(dir, "versions") // of buckets that ask for it
	for _, dir := range []string{filepath.Join(root, "data"), meta, versions} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return start(ctx, address, "/health", binary, "--port", address, "--access", S3Key, "--secret", S3Secret,
		"--quiet", "--health", "/health", "posix", "--sidecar", meta, "--versioning-dir", versions, root)
}
