package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/iterate"
	"github.com/millrace/millrace/internal/tune"
)

// maxTable bounds the rows of status.iterations: a run's document is read and
// written whole. A larger table is in the artifact iteration_results alone.
const maxTable = 20_000

// summarise writes what a task as a whole has to show: the table, the results of
// the best iteration, and the two artifacts. It returns a remark about it, or "".
func (r *runner) summarise(ctx context.Context, task iterate.Task, result iterate.Result) (string, error) {
	rows, err := r.openRows()
	if err != nil {
		return "", err
	}
	defer rows.close()
	var summary tune.Summary
	var best document.Object
	if err := rows.each(func(row tune.Row) error {
		summary.Scan(row)
		if row.Iter == result.Best.Iter {
			best = maps.Clone(row.Results)
		}
		return nil
	}); err != nil {
		return "", err
	}
	text, err := os.OpenFile(filepath.Join(r.dir.Path, "iteration_results.csv"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the table of iterations: %w", err)
	}
	defer os.Remove(text.Name())
	defer text.Close()
	buffer := bufio.NewWriter(text)
	summary.Begin(buffer, len(rows.index), maxTable, result.Best.Iter)
	if err := errors.Join(rows.each(summary.Add), summary.Flush(), buffer.Flush()); err != nil {
		return "", fmt.Errorf("write the table of iterations: %w", err)
	}
	table, remark := summary.Table(), ""
	record := document.Object{"best": result.Best.Iter}
	if table.Total <= maxTable {
		record["table"] = table.Document()
	} else {
		remark = fmt.Sprintf("the table of %d iterations is in the artifact iteration_results alone: status.iterations has at most %d", table.Total, maxTable)
	}
	if err := r.write("iterations", record); err != nil {
		return "", err
	}
	if best != nil {
		best["best_iteration"] = result.Best.Iter
		if err := r.write("update", document.Object{"results": best}); err != nil {
			return "", err
		}
	}
	csv := document.Object{"header": anyTexts(table.Header), "viewer": "table", "format": "csv"}
	if err := r.log(ctx, "iteration_results", "table", ".csv", text.Name(), csv); err != nil {
		return "", err
	}
	page := filepath.Join(r.dir.Path, "parallel_coordinates.html")
	defer os.Remove(page)
	if err := os.WriteFile(page, table.ParallelCoordinates(task.Options.Selector, result.Best.Iter), 0o600); err != nil {
		return "", fmt.Errorf("write the plot of iterations: %w", err)
	}
	return remark, r.log(ctx, "parallel_coordinates", "artifact", ".html", page, document.Object{"viewer": "web-app", "format": "html"})
}

func anyTexts(list []string) []any {
	out := make([]any, len(list))
	for i, text := range list {
		out[i] = text
	}
	return out
}

// log stores the file at path, which this program has made, as an artifact of the
// run.
func (r *runner) log(ctx context.Context, key, kind, suffix, path string, spec document.Object) error {
	doc := r.launch.Run
	name, labels := document.String(doc, "metadata", "name"), document.Strings(doc, "metadata", "labels")
	stores := r.stores(append(os.Environ(), r.environment()...))
	folder := strings.TrimRight(document.String(doc, "spec", "output_path"), "/")
	var written datastore.Written
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	content, err := open()
	if err != nil {
		return fmt.Errorf("store the artifact %s: %w", key, err)
	}
	defer content.Close()
	if environ := Variables(r.environment()); environ[HashPaths] == "true" {
		written, err = stores.PutByContent(ctx, folder, suffix, open, datastore.PutOptions{})
	} else {
		target := fmt.Sprintf("%s/%s/0/%s%s", folder, name, key, suffix)
		written, err = stores.Put(ctx, target, content, datastore.PutOptions{})
	}
	if err != nil {
		return fmt.Errorf("store the artifact %s: %w", key, err)
	}
	tree := labels["workflow"]
	if tree == "" {
		tree = r.launch.UID
	}
	now := time.Now().UTC().Format("2006-01-02 15:04:05.000000-07:00")
	maps.Copy(spec, document.Object{
		"target_path": written.URL, "db_key": name + "_" + key, "size": written.Size, "license": "",
		"producer": document.Object{"name": name, "kind": "run", "uri": r.launch.Project + "/" + r.launch.UID, "owner": labels["owner"]},
	})
	return r.write("artifact", document.Object{
		"key": key, "digest": written.Digest, "size": written.Size,
		"doc": document.Object{
			"kind": kind, "project": r.launch.Project, "spec": spec, "status": document.Object{"state": "created"},
			"metadata": document.Object{"key": key, "project": r.launch.Project, "iter": 0, "tree": tree, "hash": written.SHA1, "created": now, "updated": now},
		},
	})
}

// HashPaths is the variable that makes the content of artifacts go to a path made
// of its own hash.
const HashPaths = "MLRUN_ARTIFACTS__GENERATE_TARGET_PATH_FROM_ARTIFACT_HASH"
