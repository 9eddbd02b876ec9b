package app

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/internal/backend/local"
	"github.com/millrace/millrace/internal/template"
)

// closeTemplates is how long a server that stops waits for its templates. Those
// with workers of runs that go on end with the last of these.
const closeTemplates = 2 * time.Second

// templatesDir is the folder in which the templates of a server are asked for.
func templatesDir(dir string) string { return filepath.Join(dir, "templates") }

// imports is what the code of functions is known to import.
func (a *App) imports() template.Imports {
	return importsIn(a.dir)
}

func importsIn(dir string) template.Imports {
	return template.Imports{Dir: filepath.Join(dir, "cache", "imports")}
}

// warm has the workers of this server's runs forked from templates.
func (a *App) warm() error {
	if a.options.Templates < 0 {
		return nil
	}
	logger := a.options.Logger.With("component", "templates")
	pool, err := template.New(template.Options{Dir: templatesDir(a.dir), Max: a.options.Templates, Logger: logger})
	if err != nil {
		return err
	}
	a.teardown = append(a.teardown, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeTemplates)
		defer cancel()
		return pool.Close(ctx)
	})
	if err := pool.Listen(); err != nil {
		return err
	}
	warm := &local.Warm{Templates: pool, Imports: a.imports(), HashSeed: rand.Uint32(), Logger: logger}
	a.preparer.Warm, a.backend.Ended = warm, warm.Ended
	return nil
}
