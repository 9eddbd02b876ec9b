package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/datastore/servertest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/processor"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/template"
	"github.com/millrace/millrace/internal/worker"
)

// TestDeployedFunctionsReachObjectStores: a handler reads and writes a real S3 server
// with the secrets of its revision; one without them is refused, and goes on.
func TestDeployedFunctionsReachObjectStores(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	s3 := startS3(t)
	runtime, err := worker.Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const code = `
import mlrun

def handler(context, event):
    item = mlrun.get_dataitem("s3://data/key.txt")
    if event.method == "POST":
        item.put(event.body)
    return item.get()
`
	endpoint := "S3_ENDPOINT_URL=" + s3.URL
	for _, c := range []struct {
		secrets []string
		status  int
		body    string
	}{
		{[]string{endpoint, "AWS_ACCESS_KEY_ID=" + servertest.S3Key, "AWS_SECRET_ACCESS_KEY=" + servertest.S3Secret}, http.StatusOK, "kept"},
		{[]string{endpoint, "AWS_ACCESS_KEY_ID=" + servertest.S3Key, "AWS_SECRET_ACCESS_KEY=wrong"}, http.StatusInternalServerError, "PermissionError"},
	} {
		ask := served(t, realtime.Revision{
			Number: 1, Project: "default", Name: "reader", Mode: realtime.ModeHandler, Python: python, Runtime: runtime,
			File: "function.py", Handler: "handler", Replicas: realtime.Replicas{Min: 1, Max: 1}, Env: []string{"PYTHONDONTWRITEBYTECODE=1"}, Secrets: c.secrets,
		}, code, nil)
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			status, body := ask(method, "/", "kept")
			if status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%s with %d secrets: %d %q, want %d %q", method, len(c.secrets), status, body, c.status, c.body)
			}
		}
	}
}

// TestDataWithSecretsOfItsOwn: credentials that are given for one data item come before
// those of the function, for all that is done with it, and for no other item.
func TestDataWithSecretsOfItsOwn(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	runtime, err := worker.Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const code = `
import json
import mlrun

def refused(ask):
    try:
        ask()
    except PermissionError:
        return True

def handler(context, event):
    url, secrets = "s3://data/own/key.txt", json.loads(event.body)
    item = mlrun.get_dataitem(url, secrets=secrets)
    item.put("kept")
    with open("copy.txt", "w") as file:
        file.write("copied")
    mlrun.store_manager.object("s3://data/own/copy.txt", secrets=secrets).upload("copy.txt")
    with item.open() as file:
        file.seek(-2, 2)
        end = file.read().decode()
    found = [mlrun.get_object(url, secrets).decode(), end, item.stat().size, mlrun.get_dataitem("s3://data/own", secrets).listdir(), open(item.local()).read()]
    item.delete()
    return found + [item.exists(), refused(mlrun.get_dataitem(url).get), refused(lambda: mlrun.get_dataitem(url).put("x"))]
`
	s3 := startS3(t)
	ask := served(t, realtime.Revision{
		Number: 1, Project: "default", Name: "given", Mode: realtime.ModeHandler, Python: python, Runtime: runtime,
		File: "function.py", Handler: "handler", Replicas: realtime.Replicas{Min: 1, Max: 1}, Env: []string{"PYTHONDONTWRITEBYTECODE=1"},
		Secrets: []string{"S3_ENDPOINT_URL=" + s3.URL, "AWS_ACCESS_KEY_ID=" + servertest.S3Key, "AWS_SECRET_ACCESS_KEY=wrong", "AWS_SESSION_TOKEN=of-the-wrong"},
	}, code, nil)
	const want = `["kept", "pt", 4, ["copy.txt", "key.txt"], "kept", false, true, true]`
	for range 2 { // once the stores of these credentials are open already
		if status, body := ask(http.MethodPost, "/", fmt.Sprintf(`{"AWS_ACCESS_KEY_ID": %q, "AWS_SECRET_ACCESS_KEY": %q}`, servertest.S3Key, servertest.S3Secret)); body != want {
			t.Errorf("%d %s, want %s", status, body, want)
		}
	}
	if status, body := ask(http.MethodPost, "/", `["a list"]`); !strings.Contains(body, "secrets is of type list; give a dict of credentials") {
		t.Errorf("%d %s", status, body)
	}
}

// TestDeployedDataFromForksAndThreads: a worker that was forked from a template of
// what the code imports reads, in many threads at once, through the channel of its
// own revision, and gets of the secrets what the revision names.
func TestDeployedDataFromForksAndThreads(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	s3 := startS3(t)
	runtime, err := worker.Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "templates")
	pool, err := template.New(template.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := pool.Listen(); err != nil {
		t.Fatal(err)
	}
	const code = `
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import mlrun
from millrace import _channel

def init_context(context):
    mlrun.get_dataitem("s3://data/of-%s.txt" % os.environ["OWN"]).put(os.environ["OWN"])

def read(number):
    return mlrun.get_dataitem("s3://data/of-%s.txt" % os.environ["OWN"]).get().decode()

def handler(context, event):
    if event.path == "/die":
        os._exit(1)
    with ThreadPoolExecutor(16) as threads:
        got = set(threads.map(read, range(64)))
    forked = b"\0template\0" in open("/proc/%d/cmdline" % os.getppid(), "rb").read()
    return {"forked": forked, "read": sorted(got), "own": _channel.secret("OWN"), "other": _channel.secret("ONLY_" + os.environ["NOT"])}
`
	for _, c := range []struct{ own, not string }{{"one", "TWO"}, {"two", "ONE"}} {
		ask := served(t, realtime.Revision{
			Number: 1, Project: "default", Name: c.own, Mode: realtime.ModeHandler, Python: python, Runtime: runtime,
			File: "function.py", Handler: "handler", Replicas: realtime.Replicas{Min: 1, Max: 1},
			Env: []string{"PYTHONDONTWRITEBYTECODE=1", "NOT=" + c.not},
			Secrets: []string{
				"S3_ENDPOINT_URL=" + s3.URL, "AWS_ACCESS_KEY_ID=" + servertest.S3Key, "AWS_SECRET_ACCESS_KEY=" + servertest.S3Secret,
				"OWN=" + c.own, "ONLY_" + strings.ToUpper(c.own) + "=x",
			},
		}, code, func(o *processor.Options) {
			o.Templates, o.Imports = template.Client{Dir: folder}, template.Imports{Dir: t.TempDir()}
		})
		want := fmt.Sprintf(`{"forked": true, "read": ["%s"], "own": "%s", "other": null}`, c.own, c.own)
		for until := time.Now().Add(time.Minute); ; {
			status, body := ask(http.MethodGet, "/", "")
			if status == http.StatusOK && body == want {
				break
			}
			if fresh := strings.Replace(want, "true", "false", 1); status != http.StatusOK || body != fresh || time.Now().After(until) {
				t.Fatalf("%s: %d %q, want %q", c.own, status, body, want)
			}
			ask(http.MethodGet, "/die", "") // until the template is there that this worker has asked for
		}
	}
}

// TestDeployedJobsRecordArtifacts: what the handler of a job logs for a run that came as
// an event is recorded by the server, as part of that run; without a server that is said.
func TestDeployedJobsRecordArtifacts(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	runtime, err := worker.Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	server := httptest.NewServer(a.Handler())
	t.Cleanup(server.Close)
	const code = `
def train(context, n=1):
    context.log_artifact("rows", body="1,2,%d" % n, local_path="rows.csv", labels={"n": n})
    context.log_model("scaler", body=b"weights", model_file="scaler.bin", tag="best")
    context.log_result("n", n)
`
	ask := served(t, realtime.Revision{
		Number: 1, Project: "default", Name: "trainer", Kind: realtime.KindJobs, Mode: realtime.ModeHandler, Python: python, Runtime: runtime,
		File: "function.py", Handler: "train", Replicas: realtime.Replicas{Min: 1, Max: 1}, Env: []string{"PYTHONDONTWRITEBYTECODE=1", "MLRUN_DBPATH=" + server.URL},
	}, code, nil)
	folder := t.TempDir()
	event := func(iter int) string {
		return fmt.Sprintf(`{"metadata": {"name": "fit", "uid": "u1", "project": "default", "iteration": %d}, "spec": {"parameters": {"n": %d}, "output_path": %q}}`, iter, iter, folder)
	}
	for iter := 1; iter <= 2; iter++ {
		key := run.Key{Project: "default", UID: "u1", Iter: iter}
		if _, err := a.store.RunPut(t.Context(), key, document.Object{"metadata": document.Object{"name": "fit", "uid": "u1", "iteration": iter}}); err != nil {
			t.Fatal(err)
		}
		status, answer := ask(http.MethodPut, "/train", event(iter))
		doc, err := document.DecodeObject([]byte(answer))
		if err != nil || status != http.StatusOK || document.String(doc, "status", "state") != "running" {
			t.Fatalf("%d %s %v", status, answer, err)
		}
		if uri, want := document.String(doc, "status", "artifact_uris", "scaler"), fmt.Sprintf("store://models/default/fit_scaler#%d:best@u1", iter); uri != want {
			t.Errorf("the run's model is %s, want %s", uri, want)
		}
		kept, err := a.store.RunGet(t.Context(), key)
		if n, _ := document.Int(kept, "status", "results", "n"); err != nil || n != int64(iter) || document.String(kept, "status", "artifact_uris", "rows") == "" {
			t.Errorf("the run has %v, %v", kept["status"], err)
		}
		for key, content := range map[string]string{"fit_rows": fmt.Sprintf("1,2,%d", iter), "fit_scaler": "weights"} {
			recorded, err := a.find(t.Context(), artifact.URI{Project: "default", Key: key, Tree: "u1", Iter: iter, HasIter: true})
			if err != nil {
				t.Fatal(err)
			}
			path := document.String(recorded, "spec", "target_path")
			if key == "fit_scaler" {
				path = filepath.Join(path, "scaler.bin")
			}
			raw, err := os.ReadFile(path)
			if producer := document.String(recorded, "spec", "producer", "uri"); err != nil || string(raw) != content || producer != fmt.Sprintf("default/u1-%d", iter) {
				t.Errorf("%s: %q by %s, %v", key, raw, producer, err)
			}
		}
	}
	if _, err := a.find(t.Context(), artifact.URI{Project: "default", Key: "fit_scaler", Tag: "best"}); err != nil {
		t.Error(err)
	}
	server.Close()
	_, answer := ask(http.MethodPut, "/train", event(3))
	doc, err := document.DecodeObject([]byte(answer))
	if err != nil || document.String(doc, "status", "state") != "error" || !strings.Contains(document.String(doc, "status", "error"), "server") {
		t.Errorf("without a server: %s %v", answer, err)
	}
}

// startS3 is a real S3 server until the test ends.
func startS3(t *testing.T) *servertest.Server {
	t.Helper()
	return startStore(t, func(ctx context.Context) (*servertest.Server, error) { return servertest.S3(ctx, t.TempDir()) })
}

func startStore(t *testing.T, start func(context.Context) (*servertest.Server, error)) *servertest.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // it may have to be built
	defer cancel()
	server, err := start(ctx)
	if errors.Is(err, servertest.ErrNone) && os.Getenv("MILLRACE_TEST_REQUIRE") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// served is a processor with the data channels of this package that serves one
// revision until the test ends; the function asks it.
func served(t *testing.T, r realtime.Revision, code string, change func(*processor.Options)) func(method, path, body string) (status int, answer string) {
	t.Helper()
	path, err := os.MkdirTemp("", "mr") // short: paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	dir := realtime.Dir{Path: path}
	desired := realtime.Desired{Project: r.Project, Name: r.Name, Routes: []realtime.Route{{Revision: r.Number, Weight: 100}}}
	if err := errors.Join(dir.Create(), dir.WriteRevision(r, map[string][]byte{r.File: []byte(code)}), dir.WriteDesired(desired)); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	found := &artifacts{dataDir: t.TempDir()}
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	options := processor.Options{Logger: logger, Stores: found.stores}
	if change != nil {
		change(&options)
	}
	go func() { over <- processor.Run(ctx, dir, options) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dir.DialHTTP(ctx) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		found.close(logger)
	})
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	return func(method, path, body string) (int, string) {
		t.Helper()
		for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			request, err := http.NewRequestWithContext(ctx, method, "http://function"+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil && time.Now().Before(until) { // it may not listen yet
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return response.StatusCode, string(answer)
		}
	}
}
