package api_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

const artifacts = "/api/v2/projects/demo/artifacts"

func artifactDoc(key, tree, extra string) string {
	return fmt.Sprintf(`{"kind":"model","metadata":{"key":%q,"project":"demo","tree":%q,"iter":0},
		"spec":{"db_key":%q,"target_path":"/data/%s","producer":{"kind":"run","uri":"demo/%s"}%s},"status":{"state":"created"}}`, key, tree, key, key, tree, extra)
}

func TestArtifacts(t *testing.T) {
	t.Parallel()
	s := start(t)
	put := func(query, body string) document.Object {
		return s.do("PUT", artifacts+"/model"+query, body).is(200).json()
	}
	first := put("?tree=t1&tag=v1&iter=0", artifactDoc("model", "t1", ""))
	again := put("?tree=t1&tag=v2&iter=0", artifactDoc("model", "t1", ""))
	if uid := document.String(first, "metadata", "uid"); uid == "" || uid != document.String(again, "metadata", "uid") {
		t.Errorf("uids %s and %s", first, again)
	}
	uids := map[string]bool{}
	tags := map[string]bool{}
	for _, doc := range s.do("GET", artifacts+"?name=model", nil).is(200).items("artifacts") {
		uids[document.String(doc, "metadata", "uid")] = true
		tags[document.String(doc, "metadata", "tag")] = true
	}
	if len(uids) != 1 || !tags["v1"] || !tags["v2"] || !tags["latest"] {
		t.Errorf("uids %v, tags %v", uids, tags)
	}
	put("?tree=t2&tag=v3", artifactDoc("model", "t2", `,"size":7`))
	if got := s.do("GET", artifacts+"/model?tag=latest", nil).is(200).json(); document.String(got, "metadata", "tree") != "t2" {
		t.Errorf("latest is of %s", document.String(got, "metadata", "tree"))
	}
	if got := s.do("GET", artifacts+"/model?tag=v1&iter=0", nil).is(200).json(); document.String(got, "metadata", "tree") != "t1" {
		t.Errorf("v1 is of %s", document.String(got, "metadata", "tree"))
	}
	s.do("GET", artifacts+"/model?tag=nope", nil).is(404)
	s.do("GET", artifacts+"/none", nil).is(404)
	s.do("GET", artifacts+"/model?tag=latest&format=minimal", nil).is(200)
	if got := s.do("GET", "/api/v1/projects/demo/artifact-tags", nil).is(200).json(); len(got["tags"].([]any)) < 3 {
		t.Errorf("tags %v", got)
	}
	s.do("DELETE", artifacts+"/model?tag=v1&deletion_strategy=metadata-only&key=model", "null").is(204)
	s.do("GET", artifacts+"/model?tag=v3", nil).is(200)
	s.do("DELETE", artifacts+"/model?tag=v3&object-uid=x", "null").is(400)
	s.do("DELETE", artifacts+"/model?deletion_strategy=odd", "null").is(400)
	s.do("DELETE", artifacts+"/model?deletion_strategy=data-force", "null").is(501)
	s.do("DELETE", artifacts+"?name=model", nil).is(204)
	if got := s.do("GET", artifacts, nil).is(200).items("artifacts"); len(got) != 0 {
		t.Errorf("%d left", len(got))
	}
}

func TestArtifactRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", artifacts + "/k", `{"metadata":{"key":"k","project":"other"},"spec":{},"status":{}}`, 400},
		{"PUT", artifacts + "/k", `{"metadata":[]}`, 400},
		{"PUT", artifacts + "/-bad-", artifactDoc("k", "t", ""), 400},
		{"PUT", artifacts + "/k?tag=a%20b", artifactDoc("k", "t", ""), 400},
		{"PUT", artifacts + "/k?iter=x", artifactDoc("k", "t", ""), 400},
		{"PUT", "/api/v2/projects/none/artifacts/k", strings.ReplaceAll(artifactDoc("k", "t", ""), "demo", "none"), 404},
		{"POST", artifacts, `{"metadata":{}}`, 400},
		{"GET", artifacts + "?kind=model&category=model", "", 400},
		{"GET", artifacts + "?iter=0&best-iteration=true", "", 400},
		{"GET", artifacts + "?category=odd", "", 400},
	} {
		s.do(c.method, c.path, c.body).is(c.status)
	}
	s.do("POST", artifacts, artifactDoc("fresh", "t", "")).is(201)
	s.do("POST", artifacts, artifactDoc("fresh", "t", "")).is(409)
}

func TestAFinishedRunListsItsArtifacts(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/b1f0", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	s.do("PUT", artifacts+"/r_model?tree=b1f0&iter=0", strings.Replace(artifactDoc("model", "b1f0", ""), `"db_key":"model"`, `"db_key":"r_model"`, 1)).is(200)
	s.do("PATCH", runs+"/b1f0", `{"status.artifacts":[`+strings.Replace(artifactDoc("model", "b1f0", ""), `"db_key":"model"`, `"db_key":"r_model"`, 1)+`],"status.state":"completed"}`).is(200)
	doc := document.Map(s.do("GET", runs+"/b1f0?iter=0&format=full", nil).is(200).json(), "data")
	list := document.List(doc, "status", "artifacts")
	if len(list) == 0 {
		t.Fatalf("no artifacts: %s", document.Encode(doc))
	}
	one := list[0].(document.Object)
	if document.String(one, "spec", "db_key") != "r_model" || document.String(one, "spec", "target_path") == "" || !strings.HasPrefix(document.String(doc, "status", "artifact_uris", "model"), "store://models/demo/r_model") {
		t.Errorf("%s", document.Encode(doc))
	}
	if doc := s.do("GET", runs+"/b1f0?format=standard", nil).is(200).json(); document.Get(doc, "data", "status", "artifacts") != nil {
		t.Errorf("standard format has artifacts: %v", doc)
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, key := range []string{"a", "b"} {
		s.do("PUT", artifacts+"/"+key+"?tree=t&tag=v1", artifactDoc(key, "t", "")).is(200)
	}
	const tags = "/api/v1/projects/demo/tags/"
	find := func(tag string) int {
		return len(s.do("GET", artifacts+"?tag="+tag, nil).is(200).items("artifacts"))
	}
	s.do("PUT", tags+"good", `{"kind":"artifact","identifiers":[{"key":"a","kind":null,"iter":null,"uid":null,"producer_id":null}]}`).is(200).says(`"name":"good"`)
	if find("good") != 1 || find("v1") != 2 {
		t.Errorf("good %d, v1 %d", find("good"), find("v1"))
	}
	s.do("POST", tags+"only", `{"kind":"artifact","identifiers":[{"key":"a"}]}`).is(200)
	if find("good") != 0 || find("v1") != 1 || find("only") != 1 {
		t.Errorf("good %d, v1 %d, only %d", find("good"), find("v1"), find("only"))
	}
	s.do("DELETE", tags+"v1", `{"kind":"artifact","identifiers":[{"key":"b","iter":0}]}`).is(204)
	if find("v1") != 0 {
		t.Errorf("v1 %d", find("v1"))
	}
	s.do("PUT", tags+"x", `{"kind":"function","identifiers":[]}`).is(404)
	s.do("PUT", tags+"a%20b", `{"kind":"artifact","identifiers":[{"key":"a"}]}`).is(400)
	s.do("PUT", tags+"x", `{"kind":"artifact","identifiers":[{"key":3}]}`).is(400)
	s.do("PUT", tags+"x", `{"kind":"artifact","identifiers":[{"iter":-1}]}`).is(400)
	s.do("PUT", "/api/v1/projects/none/tags/x", `{"kind":"artifact","identifiers":[]}`).is(404)
}

// files is the content of artifacts, as real files in one folder; nothing else of
// Content is asked for.
type files struct {
	api.Content
	dir   string
	store *store.Store
}

func (f files) Remove(ctx context.Context, _ string, removal store.Removal, _ map[string]string) error {
	return f.store.RemovalStep(ctx, removal, artifact.ContentOf(removal.Doc).Files, func(targets []string) error {
		for _, target := range targets {
			if filepath.Dir(target) != f.dir {
				return fault.NotSupported("%s is elsewhere", target)
			}
			if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func (f files) Size(target string) (int64, error) {
	info, err := os.Stat(target)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func TestContentGoesWithItsLastRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, func(o *api.Options) { o.Content = files{dir: dir, store: o.Store.(*store.Store)} })
	shared := filepath.Join(dir, "abc.csv")
	if err := os.WriteFile(shared, []byte("a,b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put := func(key, tree, kind, target string) document.Object {
		return s.do("PUT", artifacts+"/"+key+"?tree="+tree, fmt.Sprintf(
			`{"kind":%q,"metadata":{"key":%q,"project":"demo","tree":%q},"spec":{"target_path":%q},"status":{}}`, kind, key, tree, target)).is(200).json()
	}
	if size, _ := document.Int(put("one", "t1", "", shared), "spec", "size"); size != 4 {
		t.Errorf("the size is %d", size)
	}
	put("one", "t2", "", shared)
	put("two", "t3", "dataset", shared)
	remove := func(key, query string, status int) {
		t.Helper()
		s.do("DELETE", artifacts+"/"+key+"?deletion_strategy="+query, "null").is(status)
	}
	there := func(want bool) {
		t.Helper()
		if _, err := os.Stat(shared); (err == nil) != want {
			t.Errorf("the file: %v", err)
		}
	}
	remove("one", "data-force", 204)
	there(true)
	put("net", "t4", "model", dir+"/")
	s.do("PUT", artifacts+"/net2?tree=t5", fmt.Sprintf(`{"kind":"model","metadata":{"key":"net2","project":"demo"},"spec":{"target_path":%q,"model_file":"abc.csv"}}`, dir+"/")).is(200)
	remove("two", "data-force", 204)
	there(true)
	put("two", "t3", "dataset", shared)
	remove("net2", "data-force", 204)
	there(true)
	s.do("GET", artifacts+"/net2?tag=latest", nil).is(404)
	remove("two", "data-force", 204)
	there(false)
	put("far", "t6", "", "/etc/hostname")
	remove("far", "data-force", 501)
	s.do("GET", artifacts+"/far?tag=latest", nil).is(200)
	remove("far", "data-optional", 204)
	s.do("GET", artifacts+"/far?tag=latest", nil).is(404)
	s.do("DELETE", artifacts+"/far", `{"mlrun.x":"y"}`).is(403)
}

func TestLegacyArtifacts(t *testing.T) {
	t.Parallel()
	s := start(t)
	const old = "/api/v1/projects/demo/artifacts"
	s.do("POST", old+"/t1/plain?tag=v1", `{}`).is(200)
	s.do("POST", old+"/t1/flat", `{"kind":"dataset","key":"flat","target_path":"/data/x.csv","labels":{"a":"b"},"iter":2}`).is(200)
	s.do("POST", old+"/t1/bad%20key", `{}`).is(400)
	if got := s.do("GET", old+"/plain?tag=v1", nil).is(200).json(); document.String(got, "data", "metadata", "tree") != "t1" {
		t.Errorf("read %v", got)
	}
	if got := s.do("GET", old+"/plain?tag=t1", nil).is(200).json(); document.String(got, "data", "metadata", "key") != "plain" {
		t.Errorf("read by tree %v", got)
	}
	s.do("GET", old+"/plain?tag=other", nil).is(404)
	got := s.do("GET", old+"?tag=t1&label=a=b", nil).is(200).items("artifacts")
	if len(got) != 1 || document.String(got[0], "spec", "target_path") != "/data/x.csv" || document.String(got[0], "kind") != "dataset" {
		t.Errorf("listed %v", got)
	}
	s.do("DELETE", old+"/t1", nil).is(400)
	s.do("DELETE", old+"/t1?key=plain", nil).is(200)
	s.do("GET", old+"/plain?tag=v1", nil).is(404)
	s.do("DELETE", old+"?name=flat", nil).is(200)
	if got := s.do("GET", old, nil).is(200).items("artifacts"); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}
