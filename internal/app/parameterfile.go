package app

import (
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/tune"
)

// checkedParameterFile is how much of a parameter file is read to refuse a task
// that cannot begin, in bytes. What is wrong with a larger one its run says.
const checkedParameterFile = 16 << 20

// checkParameterFile refuses an iterative task whose parameter file is missing or
// does not fit it. names are its hyperparams in their order. A file that this
// process cannot reach as the run will is left to the run: one named relative to
// the run's folder, one of a web server, and one of a store whose credentials only
// the function has.
func (a *App) checkParameterFile(ctx context.Context, runDoc document.Object, names []string) error {
	options, err := tune.ParseOptions(runDoc)
	if err != nil || options.ParamFile == "" || !tune.Iterative(runDoc) {
		return err
	}
	url := strings.TrimPrefix(options.ParamFile, "file://")
	scheme, _, remote := strings.Cut(url, "://")
	switch {
	case !remote && !filepath.IsAbs(url), remote && scheme != "store" && scheme != "s3":
		return nil
	}
	project := document.String(runDoc, "metadata", "project")
	lookup, permit := (&content{app: a}).credentials(project)
	stores := datastore.New(datastore.Options{Dir: "/", Resolver: resolve(a.find).in(project), Lookup: lookup, Permit: permit})
	body, _, err := stores.Open(ctx, url, datastore.Range{})
	switch {
	case err != nil && scheme == "s3" && remote:
		return nil
	case err != nil:
		return fault.Invalid("the parameter file %s cannot be read: %w", options.ParamFile, err)
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, checkedParameterFile+1))
	if err != nil || len(raw) > checkedParameterFile {
		return nil
	}
	values, err := tune.ValuesOf(runDoc, options, names, raw)
	if err == nil {
		_, err = tune.New(options, values, 0)
	}
	return err
}
