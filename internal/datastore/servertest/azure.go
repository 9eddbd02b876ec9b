package servertest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

const azureVersion = "3.35.0"

// AzureAccount and AzureKey are those of every Azurite.
const (
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// AzureConnection is the connection string of an Azurite.
func AzureConnection(url string) string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s/%s;", AzureAccount, AzureKey, url, AzureAccount)
}

// AzureReadOnly is a connection string with a signature that allows to read what is
// in the container "data", for an hour.
func AzureReadOnly(url string) (string, error) {
	client, err := container.NewClientFromConnectionString(AzureConnection(url), "data", nil)
	if err != nil {
		return "", err
	}
	signed, err := client.GetSASURL(sas.ContainerPermissions{Read: true}, time.Now().Add(time.Hour), nil)
	_, signature, _ := strings.Cut(signed, "?")
	return fmt.Sprintf("BlobEndpoint=%s/%s;SharedAccessSignature=%s", url, AzureAccount, signature), err
}

// Azure starts Azurite, which keeps its containers in memory.
func Azure(ctx context.Context) (*Server, error) {
	dir, err := installed(ctx, "azurite-"+azureVersion, func(ctx context.Context, dir string) error {
		install := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "azurite@"+azureVersion)
		install.Dir = dir
		return output(install)
	})
	if err != nil {
		return nil, err
	}
	address, port, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, address, "/", "node", filepath.Join(dir, "node_modules", "azurite", "dist", "src", "blob", "main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", port, "--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry")
	if err != nil {
		return nil, err
	}
	client, err := container.NewClientFromConnectionString(AzureConnection(s.URL), "data", nil)
	if err == nil {
		_, err = client.Create(ctx, nil)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}
