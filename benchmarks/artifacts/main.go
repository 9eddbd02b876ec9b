// Command artifacts measures the first page of lists of many artifacts over HTTP,
// by one client: a project with a million keys, most of them with the tag latest, a
// few with others.
//
//	go run ./benchmarks/artifacts [-keys 1000000] [-repeat 40] [-database-url postgres://…]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/logs"
	"github.com/millrace/millrace/internal/store"
)

const project = "bench"

type bench struct {
	keys, repeat int
	url          string
}

func main() {
	var b bench
	flag.IntVar(&b.keys, "keys", 1_000_000, "keys of the project, with one artifact each")
	flag.IntVar(&b.repeat, "repeat", 40, "how often each list is read")
	flag.StringVar(&b.url, "database-url", "", "an empty PostgreSQL database instead of SQLite")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "artifacts:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "artifacts-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "millrace.db"), DatabaseURL: b.url})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := b.fill(ctx, st); err != nil {
		return err
	}
	server := httptest.NewServer(http.Handler(api.New(api.Options{Store: st, Logs: logs.New(dir, st), ArtifactPath: "/data/artifacts"})))
	defer server.Close()
	for _, list := range []struct{ name, query string }{
		{"newest", ""},
		{"tag latest, of all", "&tag=latest"},
		{"a tag of 20", "&tag=rare"},
		{"a tag of none", "&tag=none"},
		{"a tag of 1 %, a kind of 1 %", "&tag=hundredth&kind=model"},
		{"a kind of 1 %", "&kind=model"},
		{"category of 1 %, tag latest", "&category=model&tag=latest"},
		{"a key", "&name=key-77"},
		{"part of 1,000 keys", "&name=~EY-770"},
		{"part of one key", fmt.Sprintf("&name=~EY-%d", b.keys/3)},
		{"a label of all", "&label=owner=ada"},
		{"a label of 20", "&label=rare=yes"},
		{"a producer", "&tree=tree-77"},
		{"since an hour ago", "&since=" + time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05")},
	} {
		if err := b.list(server.URL+"/api/v2/projects/"+project+"/artifacts?page=1&page-size=20"+list.query, list.name); err != nil {
			return err
		}
	}
	return b.list(server.URL+"/api/v1/projects/"+project+"/artifact-tags", "the tags of the project")
}

// fill stores the artifacts.
func (b *bench) fill(ctx context.Context, st *store.Store) error {
	began := time.Now()
	if _, err := st.ProjectPut(ctx, project, document.Object{}); err != nil {
		return err
	}
	const batch = 1000
	for from := 0; from < b.keys; from += batch {
		err := st.Tx(ctx, func(tx *store.Tx) error {
			for i := from; i < min(from+batch, b.keys); i++ {
				if _, err := tx.ArtifactPut(ctx, b.artifact(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d keys stored in %s; first page of 20, one client:\n", b.keys, time.Since(began).Round(time.Second))
	return nil
}

// artifact is what is stored under the key i.
func (b *bench) artifact(i int) store.ArtifactPut {
	key, tree, kind, tag := fmt.Sprint("key-", i), fmt.Sprint("tree-", i/10), "artifact", ""
	labels := document.Object{"owner": "ada", "host": "trainer-train-x7k2p"}
	switch {
	case i%(b.keys/20) == 1:
		tag, labels["rare"] = "rare", "yes"
	case i%100 == 2:
		tag = "hundredth"
	}
	if i%100 == 3 {
		kind = "model"
	}
	return store.ArtifactPut{Project: project, Key: key, Tree: tree, Tag: tag, Doc: document.Object{
		"kind": kind, "metadata": document.Object{"key": key, "project": project, "tree": tree, "labels": labels},
		"spec": document.Object{
			"db_key": key, "size": 4096, "format": "csv", "target_path": fmt.Sprintf("/data/artifacts/%s/%040x.csv", project, i),
			"producer": document.Object{"kind": "run", "name": "train", "uri": project + "/" + tree, "owner": "ada"},
		},
		"status": document.Object{"state": "created"},
	}}
}

func (b *bench) list(url, name string) error {
	var times []time.Duration
	var size int
	for range b.repeat {
		at := time.Now()
		answer, err := http.Get(url) //nolint:gosec,noctx // an address of this process
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: status %d: %.200s", name, answer.StatusCode, text)
		}
		times, size = append(times, time.Since(at)), len(text)
	}
	slices.Sort(times)
	fmt.Printf("%-32s %7d bytes  p50 %9s  p99 %9s\n", name, size, round10(times[len(times)/2]), round10(times[len(times)*99/100]))
	return nil
}

func round10(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
