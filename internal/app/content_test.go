package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/fault"
)

// opened is an application with a data directory of its own, until the test ends.
func opened(t *testing.T) *App {
	t.Helper()
	a, err := Open(t.Context(), Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestTheCredentialsOfAProjectAreNotMixedWithTheServers(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "server's")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "server's too")
	t.Setenv("HTTPS_AUTH_TOKEN", "server's token")
	a := opened(t)
	for _, name := range []string{"own", "plain"} {
		if _, err := a.store.ProjectPut(t.Context(), name, map[string]any{"metadata": map[string]any{"name": name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.secrets.Set(t.Context(), "own", map[string]string{"AWS_ACCESS_KEY_ID": "project's", "S3_ENDPOINT_URL": "http://own"}); err != nil {
		t.Fatal(err)
	}
	for project, want := range map[string]map[string]string{
		"own":   {"AWS_ACCESS_KEY_ID": "project's", "S3_ENDPOINT_URL": "http://own", "AWS_SECRET_ACCESS_KEY": "", "HTTPS_AUTH_TOKEN": "server's token"},
		"plain": {"AWS_ACCESS_KEY_ID": "server's", "S3_ENDPOINT_URL": "", "HTTPS_AUTH_TOKEN": "server's token"},
		"":      {"AWS_ACCESS_KEY_ID": "server's"},
	} {
		lookup, _ := a.content.credentials(project)
		for name, value := range want {
			if got := lookup(name); got != value {
				t.Errorf("project %q: %s is %q, want %q", project, name, got, value)
			}
		}
	}
}

func TestTheSecretsOfAProjectOpenNothingOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gcloud := filepath.Join(dir, ".config", "gcloud")
	if err := os.MkdirAll(gcloud, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(gcloud, "application_default_credentials.json"), []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	t.Setenv("CLOUDSDK_CONFIG", "")
	a := opened(t)
	t.Run("stores", func(t *testing.T) { // returns when all of them have
		for name, c := range map[string]struct {
			secrets map[string]string
			url     string
			says    string // "" means that the store is opened, whatever it finds
		}{
			"profile":     {map[string]string{"AWS_PROFILE": "default"}, "s3://b/k", "AWS_PROFILE"},
			"shared":      {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "s3://b/k", "AWS_SHARED_CREDENTIALS_FILE"},
			"token":       {map[string]string{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file}, "s3://b/k", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"},
			"role":        {map[string]string{"S3_NON_ANONYMOUS": "1"}, "s3://b/k", "the role of the server's machine"},
			"path":        {map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file}, "gs://b/k", "names a file"},
			"external":    {map[string]string{"GCP_CREDENTIALS": `{"type": "external_account", "credential_source": {"file": "/etc/passwd"}}`}, "gcs://b/k", `type "external_account"`},
			"other":       {map[string]string{"AWS_PROFILE": "default", "STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, "gs://b/k", ""},
			"keys":        {map[string]string{"S3_NON_ANONYMOUS": "1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://b/k", ""},
			"otherwise":   {map[string]string{"GCP_CREDENTIALS": `{"type": "external_account"}`, "S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://b/k", ""},
			"servershome": {map[string]string{"GCP_PROJECT": "mine", "STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, "gs://b/k", ""},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if _, err := a.store.ProjectPut(t.Context(), name, map[string]any{"metadata": map[string]any{"name": name}}); err != nil {
					t.Fatal(err)
				}
				if err := a.secrets.Set(t.Context(), name, c.secrets); err != nil {
					t.Fatal(err)
				}
				body, _, err := a.content.Stores(name, true).Open(t.Context(), c.url, datastore.Range{})
				if err == nil {
					body.Close()
					t.Fatal("there is nothing to read, and it was read")
				}
				if refused := fault.Is(err, fault.CodeForbidden); refused != (c.says != "") || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want a refusal with %q", err, c.says)
				}
			})
		}
	})
	if err := a.secrets.Set(t.Context(), "path", map[string]string{"HOME": "/project", "GCE_METADATA_HOST": "evil"}); err != nil {
		t.Fatal(err)
	}
	lookup, _ := a.content.credentials("path")
	for _, name := range machineOnly {
		if got := lookup(name); got != "" {
			t.Errorf("a project with credentials of its own sees %s=%q", name, got)
		}
	}
}
