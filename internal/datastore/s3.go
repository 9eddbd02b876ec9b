package datastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/millrace/millrace/internal/fault"
)

// s3 is a bucket of an S3 service.
type s3 struct {
	name string
	core minio.Core
}

func openS3(name string, o opening) (bucket, error) {
	lookup := o.lookup
	endpoint := cmp.Or(lookup("S3_ENDPOINT_URL"), lookup("AWS_ENDPOINT_URL_S3"), "https://s3.amazonaws.com")
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return nil, fault.Invalid("S3_ENDPOINT_URL %q is not the address of an S3 service; write http(s)://HOST[:PORT]", endpoint)
	}
	creds, err := s3Credentials(lookup)
	if err != nil {
		return nil, err
	}
	options := &minio.Options{
		Creds: creds, Secure: parsed.Scheme == "https", Region: cmp.Or(lookup("AWS_REGION"), lookup("AWS_DEFAULT_REGION")), MaxRetries: 4,
	}
	if lookup("S3_ENDPOINT_URL") != "" {
		options.BucketLookup = minio.BucketLookupPath
	}
	transport, err := minio.DefaultTransport(options.Secure)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", endpoint, err)
	}
	transport.DialContext = dial
	options.Transport = transport
	client, err := minio.New(parsed.Host, options)
	if err != nil {
		return nil, fault.Invalid("the S3 service at %s cannot be used: %w", endpoint, err)
	}
	return &s3{name: name, core: minio.Core{Client: client}}, nil
}

// s3Credentials picks credentials in this order: an assumed role, a profile of the
// AWS configuration, keys, the container's or machine's role when that is asked
// for, none.
func s3Credentials(lookup Lookup) (*credentials.Credentials, error) {
	key, secret, session := lookup("AWS_ACCESS_KEY_ID"), lookup("AWS_SECRET_ACCESS_KEY"), lookup("AWS_SESSION_TOKEN")
	if (key == "") != (secret == "") {
		return nil, fault.Invalid("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to be given together; one of them is missing")
	}
	switch role := lookup("MLRUN_AWS_ROLE_ARN"); {
	case role != "":
		region := cmp.Or(lookup("AWS_REGION"), lookup("AWS_DEFAULT_REGION"))
		endpoint := "https://sts.amazonaws.com"
		if region != "" {
			endpoint = "https://sts." + region + ".amazonaws.com"
		}
		creds, err := credentials.NewSTSAssumeRole(endpoint, credentials.STSAssumeRoleOptions{
			AccessKey: key, SecretKey: secret, SessionToken: session, RoleARN: role, RoleSessionName: "millrace", Location: region,
		})
		if err != nil {
			return nil, fault.Invalid("MLRUN_AWS_ROLE_ARN needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to assume the role: %w", err)
		}
		return creds, nil
	case lookup("AWS_PROFILE") != "":
		return credentials.NewFileAWSCredentials(lookup("AWS_SHARED_CREDENTIALS_FILE"), lookup("AWS_PROFILE")), nil
	case key != "":
		return credentials.NewStaticV4(key, secret, session), nil
	case lookup("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") != "", lookup("S3_NON_ANONYMOUS") != "":
		return credentials.NewIAM(""), nil
	}
	return credentials.NewStatic("", "", "", credentials.SignatureAnonymous), nil
}

func (b *s3) url(key string) string { return "s3://" + b.name + "/" + key }

// fail gives an error of the service its fault code.
func (b *s3) fail(ctx context.Context, key string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	var said minio.ErrorResponse
	if !errors.As(err, &said) {
		return fault.Unavailable("%s: the S3 service did not answer: %w", b.url(key), err)
	}
	switch said.Code {
	case minio.NoSuchBucket:
		return fault.NotFound("there is no bucket %s; create it, or correct the URL", b.name)
	case minio.NoSuchKey:
		return fault.NotFound("there is nothing at %s", b.url(key))
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "XAdminUserNotFound":
		return fault.Unauthorized("%s: the S3 service refuses the credentials (%s); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", b.url(key), said.Code)
	case minio.AccessDenied:
		return fault.Forbidden("%s may not be used with the credentials given (AccessDenied); check AWS_ACCESS_KEY_ID and the bucket's policy", b.url(key))
	case "NoSuchUpload", "InvalidPart":
		return fault.Unavailable("%s: the upload was ended by another writer (%s); try again", b.url(key), said.Code)
	}
	if said.StatusCode != 0 {
		return fmt.Errorf("%w (%s)", statusError(b.url(key), said.StatusCode), said.Code)
	}
	return fault.Invalid("%s: %w", b.url(key), err)
}

func s3Info(info minio.ObjectInfo) Info {
	out := Info{Size: info.Size, Modified: info.LastModified, ContentType: info.ContentType}
	if info.ETag != "" {
		out.ETag = `"` + info.ETag + `"`
	}
	if _, total, ok := strings.Cut(info.Headers.Get("Content-Range"), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			out.Size = n
		}
	}
	return out
}

func (b *s3) open(ctx context.Context, key string, r Range) (io.ReadCloser, Info, error) {
	options := minio.GetObjectOptions{}
	if text := rangeHeader(r); text != "" {
		options.Set("Range", text)
	}
	if r.ETag != "" {
		options.Set("If-Match", r.ETag)
	}
	body, info, header, err := b.core.GetObject(ctx, b.name, key, options)
	if err != nil {
		return openEnd(ctx, b, key, r, b.fail(ctx, key, err))
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return WholeBody(body, b.url(key), length), s3Info(info), nil
}

func (b *s3) stat(ctx context.Context, key string) (Info, error) {
	info, err := b.core.StatObject(ctx, b.name, key, minio.StatObjectOptions{})
	if err == nil {
		return s3Info(info), nil
	}
	err = b.fail(ctx, key, err)
	if !fault.Is(err, fault.CodeNotFound) {
		return Info{}, err
	}
	return statFolder(ctx, b, key, err)
}

func (b *s3) walk(ctx context.Context, key string, recursive bool, yield func(Entry) error) error {
	prefix := folderPrefix(key)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := prefix == ""
	for object := range b.core.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: recursive}) {
		if object.Err != nil {
			return b.fail(ctx, key, object.Err)
		}
		found = true
		name := strings.TrimPrefix(object.Key, prefix)
		entry := Entry{Name: strings.TrimRight(name, "/"), Size: object.Size, Modified: object.LastModified, Dir: strings.HasSuffix(name, "/")}
		if entry.Name == "" || entry.Dir && recursive {
			continue // the mark of a folder
		}
		if err := yield(entry); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !found {
		return fault.NotFound("there is nothing below %s", b.url(prefix))
	}
	return nil
}

func (b *s3) remove(ctx context.Context, key string) error {
	err := b.fail(ctx, key, b.core.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}))
	if fault.Is(err, fault.CodeNotFound) && !strings.HasPrefix(err.Error(), "there is no bucket") {
		return nil
	}
	return err
}
