package runner

import (
	"os"
	"strings"

	"github.com/millrace/millrace/internal/datachannel"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
)

// openData opens the channel through which the execution reaches data. What it
// costs until the first request is a socket.
func (r *runner) openData() error {
	environ := append(os.Environ(), r.environment()...)
	channel, err := datachannel.Listen(r.dir.Path, func() *datastore.Stores { return r.stores(environ) }, r.Logger)
	if err != nil {
		return err
	}
	r.data = channel
	return nil
}

// stores are those that the execution's environment gives access to.
func (r *runner) stores(environ []string) *datastore.Stores {
	options := datastore.Options{Lookup: Lookup(Variables(environ)), Dir: r.workdir(), Named: map[string]datastore.Named{}}
	if r.Resolver != nil {
		options.Resolver = r.Resolver(r.launch)
	}
	for _, item := range document.List(r.launch.Run, "spec", "data_stores") {
		if entry, ok := item.(document.Object); ok {
			options.Named[document.String(entry, "name")] = datastore.Named{URL: document.String(entry, "url"), Prefix: document.String(entry, "secret_pfx")}
		}
	}
	return datastore.New(options)
}

// Lookup finds a secret in an environment: under its own name, or as a cluster
// hands out the secrets of a project.
func Lookup(environment map[string]string) datastore.Lookup {
	return func(name string) string {
		if value := environment[name]; value != "" || name == "" {
			return value
		}
		return environment["MLRUN_K8S_SECRET__"+strings.ToUpper(name)]
	}
}
