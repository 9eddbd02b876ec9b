package datastore

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // Azure keeps it with an object
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/millrace/millrace/internal/fault"
)

// azure is a container of Azure Blob Storage.
type azure struct {
	name   string
	client *container.Client
}

// azureHosts end the names of the machines that have accounts. Others are not
// talked to because a URL says so: they would be given the credentials.
var azureHosts = []string{".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net"}

// azureAccount is what the names of credentials stand for.
type azureAccount struct {
	name, host, connection, key, sas string
	tenant, clientID, secret         string
}

// openAzure opens CONTAINER, or CONTAINER@ACCOUNT.blob.core.windows.net as wasbs://
// URLs have it.
func openAzure(name string, o opening) (bucket, error) {
	find := func(names ...string) string {
		for _, name := range names {
			if value := o.lookup(name); value != "" {
				return value
			}
		}
		return ""
	}
	account := azureAccount{
		name:       find("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT", "account_name"),
		key:        find("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "account_key"),
		connection: find("AZURE_STORAGE_CONNECTION_STRING", "connection_string"),
		sas:        strings.TrimPrefix(find("AZURE_STORAGE_SAS_TOKEN", "sas_token"), "?"),
		tenant:     find("AZURE_STORAGE_TENANT_ID", "AZURE_TENANT_ID", "tenant_id"),
		clientID:   find("AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID", "client_id"),
		secret:     find("AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET", "client_secret"),
	}
	name, err := account.of(name)
	if err != nil {
		return nil, err
	}
	client, err := account.open(name)
	if err != nil {
		return nil, err
	}
	return &azure{name: name, client: client}, nil
}

// of takes the account out of the host of a URL and returns the container.
func (a *azureAccount) of(host string) (string, error) {
	name, machine, ok := strings.Cut(host, "@")
	if !ok {
		if a.name == "" && a.connection == "" {
			return "", fault.Invalid("az://%s: no account is named; set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", host)
		}
		a.host = a.name + azureHosts[0]
		return name, nil
	}
	account, _, _ := strings.Cut(machine, ".")
	for _, end := range azureHosts {
		if machine != account+end {
			continue
		}
		if a.name != "" && a.name != account {
			return "", fault.Invalid("wasbs://%s is in the account %s, and the credentials are for %s", host, account, a.name)
		}
		a.name, a.host = account, machine
		return name, nil
	}
	return "", fault.Invalid("wasbs://%s: %.100q is not the address of a storage account, such as ACCOUNT%s", host, machine, azureHosts[0])
}

// open picks credentials in this order: a connection string, a key, a shared access
// signature, an application, none.
func (a *azureAccount) open(name string) (*container.Client, error) {
	core := policy.ClientOptions{Transport: webClient, Retry: policy.RetryOptions{MaxRetries: 3}}
	core.Telemetry.ApplicationID = "millrace"
	options := &container.ClientOptions{ClientOptions: core}
	address := "https://" + a.host + "/" + name
	var client *container.Client
	var err error
	switch {
	case a.connection != "":
		if client, err = container.NewClientFromConnectionString(a.connection, name, options); err != nil {
			return nil, fault.Invalid("AZURE_STORAGE_CONNECTION_STRING is no connection string of a storage account; copy it from the account's access keys")
		}
		return client, nil
	case a.key != "":
		var key *container.SharedKeyCredential
		if key, err = container.NewSharedKeyCredential(a.name, a.key); err != nil {
			return nil, fault.Invalid("AZURE_STORAGE_ACCOUNT_KEY is no key: it has to be base64, as the account's access keys are shown")
		}
		client, err = container.NewClientWithSharedKeyCredential(address, key, options)
	case a.sas != "":
		client, err = container.NewClientWithNoCredential(address+"?"+a.sas, options)
	case a.secret != "":
		var token *azidentity.ClientSecretCredential
		if token, err = azidentity.NewClientSecretCredential(a.tenant, a.clientID, a.secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: core}); err != nil {
			return nil, fault.Invalid("AZURE_STORAGE_CLIENT_SECRET needs AZURE_STORAGE_TENANT_ID and AZURE_STORAGE_CLIENT_ID beside it: %w", err)
		}
		client, err = container.NewClient(address, token, options)
	default:
		client, err = container.NewClientWithNoCredential(address, options)
	}
	if err != nil {
		return nil, fault.Invalid("the storage account at %s cannot be used: %w", a.host, err)
	}
	return client, nil
}

func (b *azure) url(key string) string { return "az://" + b.name + "/" + key }

// fail gives an error of the service its fault code.
func (b *azure) fail(ctx context.Context, key string, err error) error {
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
	var refused *azidentity.AuthenticationFailedError
	if errors.As(err, &refused) {
		return fault.Unauthorized("%s: Azure gives no token for AZURE_STORAGE_CLIENT_ID; check it, its secret and AZURE_STORAGE_TENANT_ID", b.url(key))
	}
	var said *azcore.ResponseError
	if !errors.As(err, &said) {
		return fault.Unavailable("%s: Azure Blob Storage did not answer: %w", b.url(key), err)
	}
	switch bloberror.Code(said.ErrorCode) {
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted:
		return fault.NotFound("there is no container %s; create it, or correct the URL", b.name)
	case bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo:
		return fault.Unauthorized("%s: Azure refuses the credentials; check AZURE_STORAGE_CONNECTION_STRING, the account's key or the SAS token", b.url(key))
	case "PublicAccessNotPermitted", bloberror.NoAuthenticationInformation:
		return fault.Forbidden("%s may not be used without credentials; set AZURE_STORAGE_CONNECTION_STRING", b.url(key))
	case bloberror.InvalidBlockList:
		return fault.Unavailable("%s: the upload was ended by another writer; try again", b.url(key))
	case bloberror.MD5Mismatch:
		return fault.Unavailable("%s has arrived damaged; send it again", b.url(key))
	}
	err = statusError(b.url(key), said.StatusCode)
	if said.ErrorCode != "" {
		err = fmt.Errorf("%w (%s)", err, said.ErrorCode)
	}
	return err
}

func azureTag(etag *azcore.ETag) string {
	if etag == nil {
		return ""
	}
	return `"` + strings.Trim(string(*etag), `"`) + `"`
}

// valueOf is what p points to, or nothing.
func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

func (b *azure) open(ctx context.Context, key string, r Range) (io.ReadCloser, Info, error) {
	if key == "" {
		return nil, Info{}, fault.Invalid("%s names no object; add a name to the URL", b.url(key))
	}
	options := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: r.Offset, Count: r.Length}}
	if r.ETag != "" {
		tag := azcore.ETag(r.ETag)
		options.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &tag}}
	}
	got, err := b.client.NewBlobClient(key).DownloadStream(ctx, options)
	if err != nil {
		return openEnd(ctx, b, key, r, b.fail(ctx, key, err))
	}
	length := int64(-1)
	if got.ContentLength != nil {
		length = *got.ContentLength
	}
	info := Info{Size: length, Modified: valueOf(got.LastModified), ContentType: valueOf(got.ContentType), ETag: azureTag(got.ETag)}
	if _, total, ok := strings.Cut(valueOf(got.ContentRange), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			info.Size = n
		}
	}
	body := WholeBody(got.Body, b.url(key), length)
	if r.Offset == 0 && r.Length == 0 && len(got.ContentMD5) == md5.Size {
		body = &summed{ReadCloser: body, sum: md5.New(), want: got.ContentMD5, name: b.url(key)} //nolint:gosec // see the import
	}
	return body, info, nil
}

func (b *azure) stat(ctx context.Context, key string) (Info, error) {
	missing := fault.NotFound("there is nothing at %s", b.url(key))
	if key == "" {
		return statFolder(ctx, b, key, missing)
	}
	got, err := b.client.NewBlobClient(key).GetProperties(ctx, nil)
	if err == nil {
		return Info{
			Size: valueOf(got.ContentLength), Modified: valueOf(got.LastModified), ContentType: valueOf(got.ContentType), ETag: azureTag(got.ETag),
			Dir: isAzureFolder(got.Metadata),
		}, nil
	}
	if err = b.fail(ctx, key, err); fault.Is(err, fault.CodeNotFound) {
		return statFolder(ctx, b, key, cmp.Or(err, error(missing)))
	}
	return Info{}, err
}

// isAzureFolder reports whether an object is the mark of a folder, which accounts
// with a hierarchy of names have.
func isAzureFolder(metadata map[string]*string) bool {
	for name, value := range metadata {
		if strings.EqualFold(name, "hdi_isfolder") && valueOf(value) == "true" {
			return true
		}
	}
	return false
}

func (b *azure) walk(ctx context.Context, key string, recursive bool, yield func(Entry) error) error {
	prefix := folderPrefix(key)
	found := prefix == ""
	object := func(item *container.BlobItem) error {
		found = true
		name := strings.TrimPrefix(valueOf(item.Name), prefix)
		if name == "" || strings.HasSuffix(name, "/") || isAzureFolder(item.Metadata) {
			return nil // the mark of a folder
		}
		entry := Entry{Name: name}
		if item.Properties != nil {
			entry.Size, entry.Modified = valueOf(item.Properties.ContentLength), valueOf(item.Properties.LastModified)
		}
		return yield(entry)
	}
	include := container.ListBlobsInclude{Metadata: true}
	if recursive {
		pages := b.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, Include: include})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return b.fail(ctx, key, err)
			}
			for _, item := range page.Segment.BlobItems {
				if err := object(item); err != nil {
					return err
				}
			}
		}
		return b.anything(found, prefix)
	}
	pages := b.client.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &prefix, Include: include})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return b.fail(ctx, key, err)
		}
		for _, item := range page.Segment.BlobItems {
			if err := object(item); err != nil {
				return err
			}
		}
		for _, folder := range page.Segment.BlobPrefixes {
			found = true
			if err := yield(Entry{Name: strings.TrimRight(strings.TrimPrefix(valueOf(folder.Name), prefix), "/"), Dir: true}); err != nil {
				return err
			}
		}
	}
	return b.anything(found, prefix)
}

func (b *azure) anything(found bool, prefix string) error {
	if !found {
		return fault.NotFound("there is nothing below %s", b.url(prefix))
	}
	return nil
}

func (b *azure) remove(ctx context.Context, key string) error {
	if key == "" {
		return nil
	}
	all := blob.DeleteSnapshotsOptionTypeInclude
	_, err := b.client.NewBlobClient(key).Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: &all})
	var said *azcore.ResponseError
	if errors.As(err, &said) && said.StatusCode == http.StatusNotFound && !bloberror.HasCode(err, bloberror.ContainerNotFound) {
		return nil
	}
	return b.fail(ctx, key, err)
}
