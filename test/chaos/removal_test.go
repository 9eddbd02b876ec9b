package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestContentGoesAlthoughTheServerIsKilled: a server that is killed while the files of a
// folder artifact are deleted finishes when it starts again, and deletes the record.
func TestContentGoesAlthoughTheServerIsKilled(t *testing.T) {
	w := newWorld(t)
	w.start()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	folder := filepath.Join(w.data, "artifacts", "default", "many")
	const artifacts = "/api/v2/projects/default/artifacts"
	interrupted := false
	for files := 10_000; !interrupted && files < 200_000; files *= 4 {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range files {
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		doc := fmt.Sprintf(`{"kind":"dir","metadata":{"key":"many","project":"default","tree":"t"},"spec":{"target_path":%q,"db_key":"many"}}`, folder+"/")
		if status, err := w.ask(ctx, http.MethodPost, artifacts, doc); err != nil || status != http.StatusCreated {
			t.Fatal(status, err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = w.ask(ctx, http.MethodDelete, artifacts+"/many?deletion_strategy=data-force", "null") // it is cut
		}()
		for count(t, folder) == files && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // until the first file has gone
		}
		w.mu.Lock()
		server := w.server
		w.mu.Unlock()
		_ = server.Process.Kill()
		_ = server.Wait()
		<-ended
		left := count(t, folder)
		interrupted = left > 0 && left < files
		t.Logf("killed with %d of %d files left", left, files)
		w.start()
	}
	if !interrupted {
		t.Fatal("the server was never killed in the middle")
	}
	status := 0
	for status != http.StatusNotFound && ctx.Err() == nil {
		status, _ = w.ask(ctx, http.MethodGet, artifacts+"/many?tree=t", "")
		time.Sleep(20 * time.Millisecond) // until the new server has finished
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) || ctx.Err() != nil {
		t.Errorf("%d files are left, %v, %v", count(t, folder), err, ctx.Err())
	}
}

func (w *world) ask(ctx context.Context, method, path, body string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+w.address+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func count(t *testing.T, folder string) int {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(entries)
}
