package datastore_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/datastore"
)

// killedVariable makes the test binary a writer that is killed: it holds what to
// write with, a colon, and a folder.
const killedVariable = "MILLRACE_TEST_KILLED"

const killedToken = "0123456789abcdef0123456789abcdef"

// storing are the ways content gets into a folder of artifacts.
var storing = map[string]func(dir string, body []byte) (datastore.Written, error){
	"put": func(dir string, body []byte) (datastore.Written, error) {
		return datastore.New(datastore.Options{}).Put(context.Background(), dir+"/deep/er/file", bytes.NewReader(body), datastore.PutOptions{})
	},
	"content": func(dir string, body []byte) (datastore.Written, error) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		return datastore.New(datastore.Options{}).PutByContent(context.Background(), dir+"/deep", ".bin", open, datastore.PutOptions{Sums: datastore.SHA1})
	},
	"upload": func(dir string, body []byte) (datastore.Written, error) {
		stores := datastore.New(datastore.Options{Confined: true, Roots: []string{dir}})
		inbox := datastore.NewInbox(stores, dir+".inbox")
		have, err := inbox.Have(killedToken)
		if err != nil {
			return datastore.Written{}, err
		}
		return inbox.Receive(context.Background(), datastore.Upload{
			Token: killedToken, Folder: dir + "/deep", Offset: have, Length: int64(len(body)) - have,
		}, bytes.NewReader(body[have:]))
	},
}

// TestKilledWriter kills writers at many moments: nothing is there but what is
// complete, and another attempt completes it.
func TestKilledWriter(t *testing.T) {
	data := random(48 << 20)
	if way, dir, ok := strings.Cut(os.Getenv(killedVariable), ":"); ok {
		_, _ = os.Stdout.WriteString(hanging)
		if _, err := storing[way](dir, data); err != nil {
			t.Fatal(err)
		}
		return
	}
	for way, store := range storing {
		t.Run(way, func(t *testing.T) {
			cut := 0
			for turn := range 8 {
				dir := filepath.Join(t.TempDir(), "artifacts")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				child := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
				child.Env = append(os.Environ(), killedVariable+"="+way+":"+dir)
				out, err := child.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := child.Start(); err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadFull(out, make([]byte, len(hanging)))
				time.Sleep(time.Duration(turn) * 8 * time.Millisecond)
				_ = child.Process.Signal(syscall.SIGKILL)
				_ = child.Wait()
				if err != nil {
					t.Fatal(err)
				}
				if len(whole(t, dir, data)) == 0 {
					cut++
				}
				written, err := store(dir, data)
				if err != nil || written.SHA1 == "" {
					t.Fatalf("the next attempt: %+v, %v", written, err)
				}
				if got := whole(t, dir, data); len(got) != 1 || got[0] != written.URL {
					t.Errorf("after the next attempt there are %q, not %s", got, written.URL)
				}
			}
			if cut == 0 {
				t.Error("no writer was killed before it had ended")
			}
		})
	}
}

// whole lists the files below dir, which all have to be data.
func whole(t *testing.T, dir string, data []byte) []string {
	t.Helper()
	var names []string
	s := datastore.New(datastore.Options{})
	err := s.Walk(context.Background(), dir, true, func(entry datastore.Entry) error {
		if entry.Dir {
			return nil
		}
		name := filepath.Join(dir, entry.Name)
		names = append(names, name)
		if !bytes.Equal(read(t, s, name, datastore.Range{}), data) {
			t.Errorf("%s has %d bytes that are not the content", name, entry.Size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
