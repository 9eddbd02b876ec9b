package chaos

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // content is named by it
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/datastore/servertest"
)

// maker is a handler that notes its process and then logs something large.
const maker = `
import os, time

def make(context, way, content, mark):
    with open(mark + ".new", "w") as note:
        note.write(str(os.getpid()))
    os.rename(mark + ".new", mark)
    began = time.monotonic()
    if way == "file":
        context.log_artifact("big", local_path=content + ".bin")
    elif way == "body":
        with open(content + ".bin", "rb") as file:
            context.log_artifact("big", body=file.read())
    elif way == "folder":
        context.log_artifact("big", local_path=content + ".dir")
    elif way == "model":
        context.log_model("big", model_dir=content + ".dir", model_file="0.bin", extra_data={"more": b"more"})
    elif way == "dataset":
        context.log_dataset("big", local_path=content + ".csv")
    context.log_result("took", time.monotonic() - began)
`

// setting is a number from the environment, for passes longer than the usual.
func setting(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return usual
}

// large writes what maker logs: a file of so many MiB, a folder of as many in four
// files, and a table of an eighth. It returns what their names begin with.
func large(t *testing.T, dir string, mib int) string {
	t.Helper()
	prefix := filepath.Join(dir, "content")
	block := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(block)
	line := []byte("123456789,words of a line\n")
	table := bytes.Repeat(line, len(block)/len(line))
	err := os.Mkdir(prefix+".dir", 0o700)
	for name, content := range map[string]struct {
		block []byte
		count int
	}{
		".bin": {block, mib}, ".csv": {table, mib / 8},
		".dir/0.bin": {block, mib / 4}, ".dir/1.bin": {block[1:], mib / 4}, ".dir/2.bin": {block[2:], mib / 4}, ".dir/3.bin": {block[3:], mib / 4},
	} {
		err = errors.Join(err, os.WriteFile(prefix+name, bytes.Repeat(content.block, content.count), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return prefix
}

// artifactStorm submits runs that log large artifacts and looks at what is listed.
type artifactStorm struct {
	*world
	stores  *datastore.Stores
	content string // see large
	output  string // output_path of the runs, "" for the default
	serial  int
	read    map[string]bool // the runs whose content was found right
}

// run submits a run and returns its uid and the process of its handler, once that
// has begun.
func (s *artifactStorm) run(ctx context.Context, way string) (uid string, pid int) {
	s.t.Helper()
	s.serial++
	uid = fmt.Sprintf("%032x", s.serial)
	mark := filepath.Join(s.notes, uid)
	spec := map[string]any{"handler": "make", "parameters": map[string]any{"way": way, "content": s.content, "mark": mark}}
	if s.output != "" {
		spec["output_path"] = s.output
	}
	ok := s.post(ctx, "/api/v1/submit_job", map[string]any{
		"task": map[string]any{"metadata": map[string]any{"name": way, "uid": uid, "project": "default"}, "spec": spec},
		"function": map[string]any{
			"kind": "job", "metadata": map[string]any{"name": "maker", "project": "default"},
			"spec": map[string]any{"build": map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(maker)), "origin_filename": "maker.py"}},
		},
	})
	if !ok {
		s.t.Fatal("the run was not submitted")
	}
	for ctx.Err() == nil {
		if raw, err := os.ReadFile(mark); err == nil {
			pid, _ = strconv.Atoi(string(raw))
			return uid, pid
		}
		time.Sleep(time.Millisecond) // until the handler has begun
	}
	s.t.Fatal("the handler did not begin")
	return "", 0
}

// end waits for the end of a run.
func (s *artifactStorm) end(ctx context.Context, uid string) (state string) {
	s.t.Helper()
	for ctx.Err() == nil {
		if state = s.state(uid); terminal(state) {
			return state
		}
		time.Sleep(10 * time.Millisecond) // between two looks, not for order
	}
	s.t.Fatalf("run %s is %s and does not end", uid, state)
	return ""
}

// strike kills one process: the handler's, the runner or the server.
func (s *artifactStorm) strike(random *rand.Rand, victim string, pid int) {
	switch victim {
	case "worker":
		_ = syscall.Kill(pid, syscall.SIGKILL)
	case "runner":
		s.killOne(random, "exec\x00--spool\x00"+s.data)
	case "server":
		s.killServer()
	}
}

func (w *world) killServer() {
	w.mu.Lock()
	server := w.server
	w.mu.Unlock()
	_ = server.Process.Kill()
	_ = server.Wait()
	w.start()
}

// listed reads every artifact that is listed and was not read yet: its content has to
// be there, with the size and the sum of the record. It returns the places of the contents by the uids
// of the runs that they are of.
func (s *artifactStorm) listed(ctx context.Context) map[string]string {
	s.t.Helper()
	if s.read == nil {
		s.read = map[string]bool{}
	}
	found := map[string]string{}
	list, _ := at(s.get("/api/v2/projects/default/artifacts?tag=*"), "artifacts").([]any)
	for _, doc := range list {
		tree, _ := at(doc, "metadata", "tree").(string)
		target, _ := at(doc, "spec", "target_path").(string)
		sum, _ := at(doc, "spec", "hash").(string)
		size, _ := at(doc, "spec", "size").(float64)
		if found[tree] = target; s.read[tree] {
			continue
		}
		s.read[tree] = true
		names := []string{target}
		if file, ok := at(doc, "spec", "model_target_file").(string); ok {
			names, size = []string{target + file}, 0
			sum, _, _ = strings.Cut(file, ".") // it is named by it
		} else if file, ok := at(doc, "spec", "model_file").(string); ok {
			names, sum, size = []string{target + file}, "", 0
		} else if strings.HasSuffix(target, "/") {
			names, sum = nil, ""
			for i := range 4 {
				names = append(names, fmt.Sprintf("%s%d.bin", target, i))
			}
		}
		var all int64
		for _, name := range names {
			got, n, err := s.sum(ctx, name)
			if all += n; err != nil || sum != "" && got != sum {
				s.t.Errorf("the artifact of run %s is listed, and its content %s has the SHA-1 %s, not %s: %v", tree, name, got, sum, err)
			}
		}
		if size > 0 && all != int64(size) {
			s.t.Errorf("the artifact of run %s is listed with %d bytes at %s and has %d", tree, int64(size), target, all)
		}
	}
	return found
}

func (s *artifactStorm) sum(ctx context.Context, url string) (string, int64, error) {
	body, _, err := s.stores.Open(ctx, url, datastore.Range{})
	if err != nil {
		return "", 0, err
	}
	sum := sha1.New() //nolint:gosec // see the import
	n, err := io.Copy(sum, body)
	return hex.EncodeToString(sum.Sum(nil)), n, errors.Join(err, body.Close())
}

// below counts the files of content below a folder, those that have the given text in
// their path apart.
func below(t *testing.T, folder, text string) (rest, with int) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".yaml" { // says which run a model is of
			return err
		}
		if strings.Contains(path, text) {
			with++
		} else {
			rest++
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return rest, with
}

// TestRunsKilledWhileTheyLog kills the handler's process, the runner and the server at
// random moments while runs log large artifacts, into files and into a real S3 server.
func TestRunsKilledWhileTheyLog(t *testing.T) {
	for _, target := range []string{"file", "s3"} {
		t.Run(target, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
			defer cancel()
			s := &artifactStorm{world: newWorld(t), stores: datastore.New(datastore.Options{})}
			s.content = large(t, t.TempDir(), setting("MILLRACE_CHAOS_MIB", 32))
			if target == "s3" {
				s.useS3(ctx, t.TempDir())
			}
			s.start()
			s.storm(ctx, setting("MILLRACE_CHAOS_STRIKES", 6))
		})
	}
}

func (s *artifactStorm) useS3(ctx context.Context, dir string) {
	server, err := servertest.S3(ctx, dir)
	if errors.Is(err, servertest.ErrNone) && os.Getenv("MILLRACE_TEST_REQUIRE") != "1" {
		s.t.Skip(err)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = server.Stop() })
	secrets := map[string]string{"S3_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": servertest.S3Key, "AWS_SECRET_ACCESS_KEY": servertest.S3Secret}
	for name, value := range secrets {
		s.environ = append(s.environ, name+"="+value)
	}
	s.stores = datastore.New(datastore.Options{Lookup: func(name string) string { return secrets[name] }})
	s.output = "s3://data/kept"
}

func (s *artifactStorm) storm(ctx context.Context, strikes int) {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	ways := []string{"file", "body", "folder", "model", "dataset"}
	victims := []string{"worker", "runner", "server"}
	counts := map[string]int{}
	took := map[string]time.Duration{}
	for _, way := range ways {
		uid, _ := s.run(ctx, way)
		if state := s.end(ctx, uid); state != "completed" {
			s.t.Fatalf("%s: a run that nothing was done to ended as %s", way, state)
		}
		seconds, _ := at(s.get("/api/v1/projects/default/runs/"+uid), "data", "status", "results", "took").(float64)
		took[way] = time.Duration(seconds * float64(time.Second))
	}
	whole, _ := below(s.t, filepath.Join(s.data, "artifacts"), ".millrace-part-")
	way := ""
	for i := range strikes {
		victim := victims[i%len(victims)]
		if victim == victims[0] {
			way = ways[random.IntN(len(ways))]
		}
		uid, pid := s.run(ctx, way)
		time.Sleep(time.Duration(random.Int64N(int64(took[way] + took[way]/4))))
		s.strike(random, victim, pid)
		state := s.end(ctx, uid)
		found := s.listed(ctx)
		counts[victim+" "+state]++
		if found[uid] == "" && state == "completed" {
			s.t.Errorf("%s: run %s is completed and its artifact is not listed", way, uid)
		}
		if victim == "server" && state != "completed" {
			s.t.Errorf("%s: the run ended as %s because the server was killed", way, state)
		}
		if s.t.Failed() {
			s.t.Logf("after %s, %s killed", way, victim)
			return
		}
		if i%len(victims) == len(victims)-1 {
			again, _ := s.run(ctx, way)
			if state := s.end(ctx, again); state != "completed" || s.listed(ctx)[again] == "" {
				s.t.Errorf("%s: the run given again ended as %s", way, state)
			}
		}
	}
	s.read = nil
	s.listed(ctx)
	s.t.Logf("logging took %v; %d strikes: %v", took, strikes, counts)
	rest, parts := below(s.t, filepath.Join(s.data, "artifacts"), ".millrace-part-")
	s.t.Logf("%d files of artifacts, %d of writers that were killed", rest, parts)
	if rest != whole {
		s.t.Errorf("the same content was stored in %d files, then in %d", whole, rest)
	}
	s.swept(ctx)
}

// swept wants the server to remove, when it starts, what killed writers have left a
// week ago.
func (s *artifactStorm) swept(ctx context.Context) {
	folder := filepath.Join(s.data, "artifacts")
	old := time.Now().Add(-8 * 24 * time.Hour)
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, ".millrace-part-") {
			return os.Chtimes(path, old, old)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	s.killServer()
	for ctx.Err() == nil {
		if _, left := below(s.t, folder, ".millrace-part-"); left == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond) // until the server has looked
	}
	s.t.Error("what killed writers have left is still there")
}
