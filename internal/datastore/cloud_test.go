package datastore_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/datastore/servertest"
	"github.com/millrace/millrace/internal/fault"
)

// storesWith are stores with these secrets and no others.
func storesWith(state string, secrets map[string]string) *datastore.Stores {
	return datastore.New(datastore.Options{State: state, Lookup: func(name string) string { return secrets[name] }})
}

// refusals puts a small and a large object where they cannot go.
func refusals(t *testing.T, cases map[string]struct {
	secrets map[string]string
	url     string
	code    fault.Code
},
) {
	t.Helper()
	for what, c := range cases {
		s := storesWith("", c.secrets)
		for _, size := range []int{10, 17 << 20} {
			if _, err := s.Put(context.Background(), c.url, bytes.NewReader(random(size)), datastore.PutOptions{}); !fault.Is(err, c.code) {
				t.Errorf("%s, put of %d bytes: %v", what, size, err)
			}
		}
		if _, _, err := s.Open(context.Background(), c.url, datastore.Range{}); err == nil {
			t.Errorf("%s: it can be read", what)
		}
	}
}

func TestGCS(t *testing.T) {
	t.Parallel()
	server := running(t, servertest.GCS)
	emulator := map[string]string{"STORAGE_EMULATOR_HOST": server.URL}
	for _, base := range []string{"gs://data/base", "gcs://data/deep/er #?%/ä"} {
		suite(t, storesWith("", emulator), base, 16<<20-1, 16<<20, 16<<20+1, 40<<20)
	}
	refusals(t, map[string]struct {
		secrets map[string]string
		url     string
		code    fault.Code
	}{
		"missing bucket":   {emulator, "gs://nothing/x", fault.CodeNotFound},
		"no bucket":        {emulator, "gs:///x", fault.CodeInvalid},
		"no key":           {emulator, "gs://data/", fault.CodeInvalid},
		"dots in key":      {emulator, "gs://data/../x", fault.CodeInvalid},
		"nobody there":     {map[string]string{"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, "gs://data/x", fault.CodeUnavailable},
		"not an address":   {map[string]string{"STORAGE_EMULATOR_HOST": "http://"}, "gs://data/x", fault.CodeInvalid},
		"no such file":     {map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": t.TempDir() + "/none"}, "gs://data/x", fault.CodeInvalid},
		"no credentials":   {map[string]string{"GOOGLE_APPLICATION_CREDENTIALS_JSON": `{"type":"other"}`}, "gs://data/x", fault.CodeInvalid},
		"broken JSON":      {map[string]string{"GCP_CREDENTIALS": `{"type":`}, "gs://data/x", fault.CodeInvalid},
		"half credentials": {map[string]string{"GCP_CREDENTIALS": `{"type":"external_account"}`}, "gs://data/x", fault.CodeInvalid},
	})
}

func TestAzure(t *testing.T) {
	t.Parallel()
	server := running(t, servertest.Azure)
	connection := map[string]string{"AZURE_STORAGE_CONNECTION_STRING": servertest.AzureConnection(server.URL)}
	for _, base := range []string{"az://data/base", "wasbs://data/deep/er #?%/ä"} {
		suite(t, storesWith("", connection), base, 16<<20-1, 16<<20, 16<<20+1, 40<<20)
	}
	readOnly, err := servertest.AzureReadOnly(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := storesWith("", map[string]string{"AZURE_STORAGE_CONNECTION_STRING": readOnly})
	if got := read(t, s, "az://data/base/dir/a.bin", datastore.Range{Length: 10}); !bytes.Equal(got, random(40 << 20)[:10]) {
		t.Errorf("read with a shared access signature: %x", got)
	}
	wrong := "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=AAAA;BlobEndpoint=" + server.URL + "/devstoreaccount1;"
	anonymous := "DefaultEndpointsProtocol=http;SharedAccessSignature=sv=2020&sig=no;BlobEndpoint=" + server.URL + "/devstoreaccount1;"
	refusals(t, map[string]struct {
		secrets map[string]string
		url     string
		code    fault.Code
	}{
		"missing container": {connection, "az://nothing/x", fault.CodeNotFound},
		"no container":      {connection, "az:///x", fault.CodeInvalid},
		"no key":            {connection, "az://data/", fault.CodeInvalid},
		"wrong key":         {map[string]string{"AZURE_STORAGE_CONNECTION_STRING": wrong}, "az://data/x", fault.CodeForbidden},
		"may only read":     {map[string]string{"AZURE_STORAGE_CONNECTION_STRING": readOnly}, "az://data/nothing", fault.CodeForbidden},
		"wrong signature":   {map[string]string{"AZURE_STORAGE_CONNECTION_STRING": anonymous}, "az://data/x", fault.CodeForbidden},
		"no account":        {nil, "az://data/x", fault.CodeInvalid},
		"no key of base64":  {map[string]string{"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "%"}, "az://data/x", fault.CodeInvalid},
		"no connection":     {map[string]string{"connection_string": "x"}, "az://data/x", fault.CodeInvalid},
		"foreign machine":   {map[string]string{"sas_token": "sig=secret"}, "wasbs://data@127.0.0.1/x", fault.CodeInvalid},
		"foreign domain":    {map[string]string{"sas_token": "sig=secret"}, "wasbs://data@a.blob.core.windows.net.example.org/x", fault.CodeInvalid},
		"other account":     {map[string]string{"AZURE_STORAGE_ACCOUNT_NAME": "a"}, "wasbs://data@b.blob.core.windows.net/x", fault.CodeInvalid},
		"half an identity":  {map[string]string{"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_CLIENT_SECRET": "s"}, "az://data/x", fault.CodeInvalid},
	})
}
