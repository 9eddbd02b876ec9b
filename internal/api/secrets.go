package api

import (
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/secret"
)

// kubernetes is what clients call the secret store of the server.
const kubernetes = "kubernetes"

func (c *call) secrets() (Secrets, error) {
	if c.s.opts.Secrets == nil {
		return nil, fault.NotSupported("this server keeps no secrets")
	}
	return c.s.opts.Secrets, nil
}

// checkProvider refuses other stores than that of this server.
func checkProvider(provider string) error {
	if provider != "" && provider != kubernetes {
		return fault.Invalid("the secret provider %q is not one of this server; use %s, which stands for its own encrypted store", clip(provider), kubernetes)
	}
	return nil
}

// masker masks the secrets of a run of this server, which its code may send in
// records of its own.
func (c *call) masker(uid string) *secret.Masker {
	if c.s.opts.Masks == nil || uid == "" {
		return nil
	}
	return c.s.opts.Masks.MaskerOfRun(uid)
}

// maskArtifact masks the secrets of the run that made an artifact.
func (c *call) maskArtifact(doc document.Object) {
	_, uid, _ := strings.Cut(document.String(doc, "spec", "producer", "uri"), "/")
	masker := c.masker(uid)
	if end := strings.LastIndexByte(uid, '-'); masker == nil && end > 0 {
		masker = c.masker(uid[:end]) // without the number of an iteration
	}
	masker.Object(doc)
}

func (c *call) provider() error { return checkProvider(c.str("provider")) }

// secretKeys lists the names of a project's secrets.
func secretKeys(c *call) error {
	secrets, err := c.secrets()
	if err != nil {
		return err
	}
	if err := c.provider(); err != nil {
		return err
	}
	if c.r.Header.Get("X-Mlrun-Secret-Store-Token") != "" {
		return fault.Invalid("provider kubernetes takes no secret store token; leave the header out")
	}
	names, err := secrets.Names(c.ctx(), c.path("project"))
	if err != nil {
		return err
	}
	if names == nil {
		names = []string{}
	}
	return c.json(200, document.Object{"provider": kubernetes, "secret_keys": names})
}

// secretValues are never handed out.
func secretValues(*call) error {
	return fault.Forbidden("the values of secrets are not handed out; list their keys with secret-keys")
}

func secretPut(c *call) error {
	secrets, err := c.secrets()
	if err != nil {
		return err
	}
	request, err := c.object()
	if err != nil {
		return err
	}
	provider, err := document.Want[string](request, "provider")
	if err != nil {
		return err
	}
	if err := checkProvider(provider); err != nil {
		return err
	}
	given, err := document.Want[document.Object](request, "secrets")
	if err != nil {
		return err
	}
	values := make(map[string]string, len(given))
	for name, value := range given {
		text, ok := value.(string)
		if !ok {
			return fault.Invalid("secrets.%s must be a string, got %s", clip(name), document.TypeName(value))
		}
		values[name] = text
	}
	if _, err := c.s.opts.Store.ProjectGet(c.ctx(), c.path("project")); err != nil {
		return err
	}
	if err := secrets.Set(c.ctx(), c.path("project"), values); err != nil {
		return err
	}
	return c.silent(201)
}

func secretDelete(c *call) error {
	c.discard()
	secrets, err := c.secrets()
	if err != nil {
		return err
	}
	if err := c.provider(); err != nil {
		return err
	}
	if err := secrets.Delete(c.ctx(), c.path("project"), c.strs("secret")); err != nil {
		return err
	}
	return c.silent(204)
}

func userSecrets(c *call) error {
	c.discard()
	return fault.Invalid("this server has no secrets of users; store them in a project")
}

func secretRotate(c *call) error {
	c.discard()
	secrets, err := c.secrets()
	if err != nil {
		return err
	}
	n, err := secrets.Rotate(c.ctx())
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"secrets": n})
}
