package cli

import (
	"path/filepath"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// upload sees to it that the server has the bundle of code that the function
// refers to; a server on the same data directory has it already.
func (e *env) upload(c *client.Client, dataDir string, function document.Object) error {
	name, ok := code.BundleName(document.String(function, "spec", "build", "source"))
	if !ok {
		return nil
	}
	there, err := c.HasBundle(e.soft, name)
	if err != nil || there {
		return err
	}
	path, err := code.Bundles{Dir: filepath.Join(dataDir, "bundles")}.Path(name)
	if fault.Is(err, fault.CodeNotFound) {
		return fault.NotFound("the function's code, the bundle %s, is neither on this machine nor on the server; run or import the folder that it was made of", name)
	}
	if err != nil {
		return err
	}
	return c.PutBundle(e.soft, name, path)
}
