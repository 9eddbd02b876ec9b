package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/millrace/millrace/internal/fault"
)

// GoogleCredentials are the names of secrets that hold the JSON of credentials or
// the path of a file that does, in the order in which they are looked at.
var GoogleCredentials = []string{"GCP_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS_JSON", "GOOGLE_APPLICATION_CREDENTIALS"}

const gcsScope = "https://www.googleapis.com/auth/devstorage.read_write"

// gcsTokens picks credentials in this order: those that are named, the ones of the
// user's gcloud, the role of the machine; nil when there are none, and for an
// emulator. What belongs to the user or the machine is looked for only by those who
// may look at the environment at all.
func gcsTokens(lookup Lookup) (oauth2.TokenSource, error) {
	if lookup("STORAGE_EMULATOR_HOST") != "" {
		return nil, nil
	}
	for _, name := range GoogleCredentials {
		value := strings.TrimSpace(lookup(name))
		if value == "" {
			continue
		}
		raw := []byte(value)
		if value[0] != '{' {
			var err error
			if raw, err = os.ReadFile(value); err != nil {
				return nil, fault.Invalid("%s: the file of credentials cannot be read: %w", name, err)
			}
		}
		return gcsCredentials(name, raw)
	}
	home := lookup("HOME")
	if home == "" {
		return nil, nil
	}
	folder := lookup("CLOUDSDK_CONFIG")
	if folder == "" {
		folder = filepath.Join(home, ".config", "gcloud")
	}
	path := filepath.Join(folder, "application_default_credentials.json")
	switch raw, err := os.ReadFile(path); {
	case err == nil:
		return gcsCredentials(path, raw)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fault.Invalid("the file of credentials cannot be read: %w", err)
	}
	if lookup("GCE_METADATA_HOST") != "" || onGoogleMachine() {
		return google.ComputeTokenSource("", gcsScope), nil
	}
	return nil, nil
}

// onGoogleMachine asks the firmware, because a question over the network to a
// server that is not there takes seconds.
func onGoogleMachine() bool {
	raw, err := os.ReadFile("/sys/class/dmi/id/product_name")
	return err == nil && strings.HasPrefix(string(raw), "Google")
}

// gcsCredentials reads the JSON that Google gives out as credentials.
func gcsCredentials(from string, raw []byte) (oauth2.TokenSource, error) {
	var said struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return nil, fault.Invalid("%s holds no JSON document of Google credentials", from) // the text stays out: it is a secret
	}
	switch said.Type {
	case google.ServiceAccount, google.AuthorizedUser, google.ExternalAccount, google.ExternalAccountAuthorizedUser, google.ImpersonatedServiceAccount:
	default:
		return nil, fault.Invalid("%s holds credentials of the type %.40q; give a service account, an authorized user, an external account or an impersonation", from, said.Type)
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: webClient.Transport, Timeout: time.Minute})
	found, err := google.CredentialsFromJSONWithType(ctx, raw, said.Type, gcsScope)
	if err != nil {
		return nil, fault.Invalid("%s holds Google credentials that cannot be used: %w", from, err)
	}
	return found.TokenSource, nil
}
