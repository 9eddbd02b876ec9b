package app

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/fault"
)

// families are names whose first word is not that of their store.
var families = map[string]string{"S3": "AWS", "MLRUN": "AWS", "GOOGLE": "GCP", "CLOUDSDK": "GCP", "GCE": "GCP", "STORAGE": "GCP", "HOME": "GCP"}

// family names the store that a credential is for.
func family(name string) string {
	word, _, _ := strings.Cut(name, "_")
	return cmp.Or(families[word], word)
}

// machineOnly are names that say where the credentials of a user or a machine are.
// The server's own are used, those of a project never.
var machineOnly = []string{"HOME", "CLOUDSDK_CONFIG", "GCE_METADATA_HOST"}

const credentialsTime = 10 * time.Second

// credentials finds those of a project, else those of the server. When the project
// has any for a store, none of the server's are used for it: an endpoint of the
// project never gets the server's keys. The second function refuses stores that the
// project's credentials would open with files or roles of the server's machine.
func (c *content) credentials(project string) (datastore.Lookup, func(scheme string) error) {
	values := sync.OnceValues(func() (map[string]string, error) {
		if project == "" {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), credentialsTime)
		defer cancel()
		names, err := c.app.secrets.Names(ctx, project)
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(machineOnly, name) })
		return c.app.secrets.Resolve(ctx, project, names)
	})
	lookup := func(name string) string {
		own, err := values()
		if err != nil { // without the project's own, the server's would be wrong ones
			c.app.options.Logger.Error("read the credentials of a project", "project", project, "error", err)
			return ""
		}
		for known := range own {
			if family(known) == family(name) {
				return own[name]
			}
		}
		return os.Getenv(name)
	}
	return lookup, func(scheme string) error {
		own, err := values()
		if err != nil {
			return err
		}
		return ofTheMachine(project, scheme, own)
	}
}

// ofTheMachine refuses secrets of a project by which a store of the scheme would
// read a file of the server's machine or act in its role: whoever may set a
// project's secrets may not see those.
func ofTheMachine(project, scheme string, own map[string]string) error {
	switch scheme {
	case "s3":
		for _, name := range []string{"AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"} {
			if own[name] != "" {
				return fault.Forbidden("the secret %s of the project %s names files of the server's machine, which a project may not use; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead", name, project)
			}
		}
		if own["S3_NON_ANONYMOUS"] != "" && own["AWS_ACCESS_KEY_ID"] == "" {
			return fault.Forbidden("the secret S3_NON_ANONYMOUS of the project %s asks for the role of the server's machine, which a project may not use; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead", project)
		}
	case "gs", "gcs":
		for _, name := range datastore.GoogleCredentials {
			value := strings.TrimSpace(own[name])
			if value == "" {
				continue
			}
			if value[0] != '{' {
				return fault.Forbidden("the secret %s of the project %s names a file of the server's machine, which a project may not use; set it to the JSON of the credentials", name, project)
			}
			var said struct {
				Type string `json:"type"`
			}
			// JSON that cannot be read is refused by the store, which says so.
			if err := json.Unmarshal([]byte(value), &said); err == nil && said.Type != "service_account" && said.Type != "authorized_user" {
				return fault.Forbidden("the secret %s of the project %s holds credentials of the type %.40q, which can name files of the server's machine; use a service account or an authorized user", name, project, said.Type)
			}
		}
	}
	return nil
}
