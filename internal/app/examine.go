package app

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/cli"
	"github.com/millrace/millrace/internal/doctor"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/store"
)

// Examine implements cli.Examiner. A data directory that is not there yet stays
// away: what a check has to write goes to a temporary folder.
func (s *system) Examine(ctx context.Context, options cli.ConnectOptions, listen string) []cli.Diagnosis {
	scratch := options.DataDir
	if _, err := os.Stat(scratch); err != nil {
		if temporary, err := os.MkdirTemp("", "millrace-doctor-"); err == nil {
			defer os.RemoveAll(temporary)
			scratch = temporary
		}
	}
	interpreters := env.NewInterpreters(env.InterpreterConfig{Default: options.Python, CacheDir: filepath.Join(scratch, "cache")})
	checks := []doctor.Check{
		doctor.DataFolder{Path: options.DataDir},
		doctor.Database{Where: where(options), Open: func(ctx context.Context) (string, error) { return openDatabase(ctx, options) }},
		doctor.Python{Interpreters: interpreters},
	}
	if envs, err := env.New(env.Config{Dir: filepath.Join(scratch, "envs"), CacheDir: filepath.Join(scratch, "cache")}); err == nil {
		defer envs.Close()
		checks = append(checks, doctor.Packages{Interpreters: interpreters, Builder: envs})
	}
	checks = append(checks, doctor.Limits{}, doctor.GPUs{}, doctor.OpenFiles{}, doctor.Clock{Folder: options.DataDir}, doctor.Port{Address: listen}, doctor.Git(), doctor.Go())
	var out []cli.Diagnosis
	for _, result := range doctor.Run(ctx, checks) {
		out = append(out, cli.Diagnosis{Name: result.Name, Status: string(result.Status), Detail: result.Detail, Remedy: result.Remedy})
	}
	return out
}

// where names the database without credentials.
func where(options cli.ConnectOptions) string {
	if options.DatabaseURL == "" {
		return filepath.Join(options.DataDir, "millrace.db")
	}
	parsed, err := url.Parse(options.DatabaseURL)
	if err != nil || parsed.Host == "" {
		return "the PostgreSQL database"
	}
	return "PostgreSQL at " + parsed.Host + parsed.Path
}

// openDatabase opens and closes the database. An embedded one that was never made
// is not made now.
func openDatabase(ctx context.Context, options cli.ConnectOptions) (string, error) {
	path := filepath.Join(options.DataDir, "millrace.db")
	if options.DatabaseURL == "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return "SQLite, made by the first command", nil
		}
	}
	opened, err := store.Open(ctx, store.Options{Path: path, DatabaseURL: options.DatabaseURL})
	if err != nil {
		return "", err
	}
	if err := opened.Close(); err != nil {
		return "", err
	}
	if options.DatabaseURL != "" {
		return "it answers", nil
	}
	return "SQLite, it opens", nil
}
