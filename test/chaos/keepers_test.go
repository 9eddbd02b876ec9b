package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/store/storetest"
	"github.com/millrace/millrace/test/harness"
)

// TestAnotherServerTakesOver: of two servers on one PostgreSQL one keeps a function,
// and the other passes requests on to it. When the first is killed, its process serves
// on, and the second brings the function up itself, although its code is a folder that was
// sent to the first; when the first is back, what it has left ends, also of functions that
// were deleted meanwhile.
func TestAnotherServerTakesOver(t *testing.T) {
	database, err := storetest.StartPostgres(t.Context())
	storetest.Require(t, err)
	t.Cleanup(func() {
		if err := database.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, _, err := database.Database(t.Context(), fmt.Sprintf("millrace_chaos_%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	a := harness.StartServer(t, "--database-url", url)
	b := harness.StartServer(t, "--database-url", url)
	folder := filepath.Join(t.TempDir(), "where")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	code := "import os\n\ndef handler(context, event):\n    return '%s by %s' % (os.environ['MILLRACE_FUNCTIONS'], event.body.decode())\n"
	if err := os.WriteFile(filepath.Join(folder, "main.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	millrace := func(server *harness.Server, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), harness.Binary(t), args...)
		cmd.Env = append(os.Environ(), "MILLRACE_URL="+server.URL, "MILLRACE_DATA_DIR="+t.TempDir()) // no folder of a server's
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("millrace %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	ask := func(base string) string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, base, strings.NewReader("me"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(response.StatusCode, " ", string(raw))
	}
	from := func(s *harness.Server) string {
		return "200 " + filepath.Join(s.DataDir, "functions", "default") + " by me"
	}
	at := func(s *harness.Server) string { return s.URL + "/fn/default/where/" }
	millrace(a, "deploy", folder, "--name", "where", "--handler", "main:handler")
	for _, server := range []*harness.Server{a, b} {
		if got := ask(at(server)); got != from(a) {
			t.Fatalf("asked at %s: %q, want %q", server.URL, got, from(a))
		}
	}
	a.Kill(t)
	await := func(what, base, want string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if got = ask(base); got == want {
				return
			}
		}
		t.Fatalf("%s: %q, want %q", what, got, want)
	}
	await("the second server has not taken over", at(b), from(b))
	left := filepath.Join(a.DataDir, "functions", "default", "where", "lock")
	again := harness.StartServer(t, "--database-url", url, "--data-dir", a.DataDir)
	await("the first server, which is back, does not pass on", at(again), from(b))
	for deadline := time.Now().Add(time.Minute); filelock.Held(left); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what the first server has left serves on")
		}
	}
	// Its own address, which that had kept, is the successor's within a moment.
	shown := struct{ Status struct{ Address string } }{}
	response, err := http.Get(b.URL + "/api/v1/millrace/projects/default/deployments/where")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&shown); err != nil || shown.Status.Address == "" {
		t.Fatalf("%+v, %v", shown, err)
	}
	await("the address is not served again", "http://"+shown.Status.Address, from(b))
	millrace(again, "delete", "deployment", "where")
	if got := ask(at(b)); !strings.HasPrefix(got, "404 ") {
		t.Errorf("after it was deleted: %q", got)
	}

	millrace(again, "deploy", folder, "--name", "where", "--handler", "main:handler")
	await("it is not served again", at(again), from(a)) // on the same folder
	again.Kill(t)
	await("the second server has not taken over again", at(b), from(b))
	millrace(b, "delete", "deployment", "where")
	if !filelock.Held(left) {
		t.Error("what the killed server has left has ended before it could be told to")
	}
	harness.StartServer(t, "--database-url", url, "--data-dir", a.DataDir)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := os.Stat(filepath.Dir(left))
		if os.IsNotExist(err) && !filelock.Held(left) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("of what was deleted is there: %v, alive %v", err, filelock.Held(left))
		}
	}
}
