// Command api measures the HTTP API under load: runs stored and updated durably
// by many clients at once, beside a bare file to which the same bytes are
// appended with one sync for whatever arrived together; and the first page of
// lists of many runs.
//
//	go run ./benchmarks/api [-clients 64] [-seconds 5] [-runs 1000000]
//	go run ./benchmarks/api -url http://127.0.0.1:8080 [-token T]
//
// Without -url the server's own parts (API and SQLite store) are started in this
// process, so both share the cores with the clients. With -url the project "bench"
// is made there, and the list part is left out.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/logs"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

const project = "bench"

type options struct {
	clients int
	length  time.Duration
	runs    int
	url     string
	token   string
	dir     string
}

func main() {
	var o options
	seconds := flag.Float64("seconds", 5, "length of each measurement")
	flag.IntVar(&o.clients, "clients", 64, "clients at once, each with its own connection")
	flag.IntVar(&o.runs, "runs", 1_000_000, "runs stored for the lists; 0 leaves lists out")
	flag.StringVar(&o.url, "url", "", "a server to measure instead of one in this process")
	flag.StringVar(&o.token, "token", "", "token of that server")
	flag.StringVar(&o.dir, "dir", "", "folder for the files of the measurement (default a temporary one)")
	profile := flag.String("profile", "", "file for a CPU profile of this process")
	flag.Parse()
	o.length = time.Duration(*seconds * float64(time.Second))
	if err := profiled(*profile, func() error { return measure(context.Background(), o) }); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// profiled runs work and writes a CPU profile of it to path, if there is one.
func profiled(path string, work func() error) error {
	if path == "" {
		return work()
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return work()
}

func measure(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp(o.dir, "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	target, st, err := o.server(ctx, dir)
	if err != nil {
		return err
	}
	defer target.close()
	if err := target.ensureProject(ctx); err != nil {
		return err
	}
	body := document.Encode(sample("bench"))
	fmt.Printf("%d clients, %s each, documents of %d bytes\n\n", o.clients, o.length, len(body))
	floor, err := appends(filepath.Join(dir, "append"), body, o)
	if err != nil {
		return err
	}
	fmt.Printf("%-32s %s\n", "append, one sync for a group", floor)
	stored, err := target.load(o, func(client, n int) request {
		return target.request("POST", fmt.Sprintf("/runs/%s-%d-%d?iter=0", target.series, client, n), body)
	})
	if err != nil {
		return err
	}
	fmt.Printf("%-32s %s   %.2f × append\n", "store run", stored, stored.rate/floor.rate)
	updated, err := target.load(o, func(client, n int) request {
		update := fmt.Sprintf(`{"status.state":"running","status.last_update":"2024-10-23T08:16:09.512+00:00","status.results":{"accuracy":0.%d}}`, n)
		return target.request("PATCH", fmt.Sprintf("/runs/%s-%d-%d?iter=0", target.series, client, n%max(1, stored.count/o.clients/2)), []byte(update))
	})
	if err != nil {
		return err
	}
	fmt.Printf("%-32s %s   %.2f × append\n", "update run", updated, updated.rate/floor.rate)
	if st == nil || o.runs == 0 {
		return nil
	}
	return lists(ctx, target, st, o.runs)
}

// server is the one asked for, or one in this process with its store.
func (o options) server(ctx context.Context, dir string) (*target, *store.Store, error) {
	series := fmt.Sprintf("b%x", time.Now().UnixNano())
	if o.url != "" {
		return newTarget(o.url, o.token, series, func() {}), nil, nil
	}
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "millrace.db")})
	if err != nil {
		return nil, nil, err
	}
	handler := api.New(api.Options{Store: st, Logs: logs.New(dir, st), ArtifactPath: "/data/artifacts"})
	server := httptest.NewServer(http.Handler(handler))
	return newTarget(server.URL, "", series, func() { server.Close(); _ = st.Close() }), st, nil
}

// sample is a run as clients store it.
func sample(name string) document.Object {
	return document.Object{
		"kind": "run",
		"metadata": document.Object{"name": name, "iteration": 0, "project": project, "labels": document.Object{
			"kind": "job", "owner": "ada", "host": "trainer-train-x7k2p", "mlrun/client_version": "1.10.0", "mlrun/client_python_version": "3.11.7"}},
		"spec": document.Object{
			"function": project + "/trainer@2f667eb0246065cee182356054db2c22f6237aaf", "handler": "train", "log_level": "info",
			"parameters": document.Object{"lr": 0.1, "epochs": 20, "depth": 6}, "inputs": document.Object{"data": "store://datasets/bench/raw"},
			"output_path": "/data/artifacts/bench", "scrape_metrics": true,
			"state_thresholds": document.Object{"pending_scheduled": "1h", "pending_not_scheduled": "-1", "image_pull_backoff": "1h", "executing": "24h"}},
		"status": document.Object{"state": "running", "start_time": "2024-10-23T08:16:01.000001+00:00", "results": document.Object{"accuracy": 0.91, "loss": 0.3}},
	}
}

// lists stores many runs and reads first pages of them.
func lists(ctx context.Context, t *target, st *store.Store, count int) error {
	began := time.Now()
	const batch = 2000
	start := time.Now().Add(-10 * 24 * time.Hour)
	for from := 0; from < count; from += batch {
		err := st.Tx(ctx, func(tx *store.Tx) error {
			for i := from; i < min(from+batch, count); i++ {
				doc := sample(fmt.Sprintf("train-%d", i%1000))
				document.Set(doc, []any{"completed", "error", "completed", "completed"}[i%4], "status", "state")
				document.Set(doc, document.Time(start.Add(time.Duration(i)*800*time.Millisecond)), "status", "start_time")
				if _, err := tx.RunPut(ctx, run.Key{Project: project, UID: fmt.Sprintf("list%08d", i)}, doc); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("\nstored %d more runs in %s; first page of 20, one client:\n", count, time.Since(began).Round(time.Second))
	recent := time.Now().Add(-7 * 24 * time.Hour).UTC().Format("2006-01-02T15:04:05")
	for _, list := range []struct{ name, query string }{
		{"newest", "iter=no&start_time_from=2000-01-01T00:00:00"},
		{"no filter: latest of each name", "iter=no"},
		{"the same as clients ask for it", "iter=no&start_time_from=" + recent + "&partition-by=project_and_name&partition-sort-by=updated&rows-per-partition=1"},
		{"by state", "iter=no&state=error"},
		{"by name", "iter=no&name=train-7"},
		{"by part of a name", "iter=no&name=~ain-77"},
		{"by label", "iter=no&label=owner=ada"},
	} {
		result, err := t.repeat(40, t.request("GET", "/runs?page=1&page-size=20&"+list.query, nil))
		if err != nil {
			return fmt.Errorf("%s: %w", list.name, err)
		}
		fmt.Printf("%-32s p50 %s  p99 %s\n", list.name, ms(result.p50), ms(result.p99))
	}
	return nil
}
