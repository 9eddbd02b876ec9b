package datastore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/datastore/servertest"
	"github.com/millrace/millrace/internal/fault"
)

// uploadVariable makes the test binary an uploader that is killed; it holds a JSON
// document of an upload.
const uploadVariable = "MILLRACE_TEST_UPLOAD"

type upload struct {
	URL, State string
	Secrets    map[string]string
}

func (u upload) put(body io.Reader, data []byte) (datastore.Written, error) {
	return storesWith(u.State, u.Secrets).Put(context.Background(), u.URL, body,
		datastore.PutOptions{Size: int64(len(data)), Digest: digest(data), Resume: true})
}

// TestKilledUpload kills a process in the middle of an upload: nothing is visible,
// and the next upload sends only what is missing.
func TestKilledUpload(t *testing.T) {
	data := random(80 << 20)
	if raw := os.Getenv(uploadVariable); raw != "" {
		var u upload
		if err := json.Unmarshal([]byte(raw), &u); err != nil {
			t.Fatal(err)
		}
		// All but the last part is sent, then it hangs until it is killed.
		_, err := u.put(io.MultiReader(bytes.NewReader(data[:64<<20]), hang{}), data)
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url string
		start     func(context.Context) (*servertest.Server, error)
		secrets   func(address string) map[string]string
	}{
		{"S3", "s3://data/killed.bin", func(ctx context.Context) (*servertest.Server, error) { return servertest.S3(ctx, t.TempDir()) }, s3Secrets},
		{"GCS", "gs://data/killed.bin", servertest.GCSSessions, func(address string) map[string]string {
			return map[string]string{"STORAGE_EMULATOR_HOST": address}
		}},
		{"Azure", "az://data/killed.bin", servertest.Azure, func(address string) map[string]string {
			return map[string]string{"AZURE_STORAGE_CONNECTION_STRING": servertest.AzureConnection(address)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			counted := startCounting(t, running(t, c.start).URL)
			u := upload{URL: c.url, State: t.TempDir(), Secrets: c.secrets(counted.url)}
			killInTheMiddle(t, u)
			counted.settle()
			s := storesWith("", u.Secrets)
			if _, err := s.Stat(context.Background(), u.URL); !fault.Is(err, fault.CodeNotFound) {
				t.Fatalf("visible after the kill: %v", err)
			}
			err := s.Walk(context.Background(), c.url[:len("s3://data/")], true, func(entry datastore.Entry) error {
				t.Errorf("listed after the kill: %+v", entry)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			before := counted.sent.Load()
			written, err := u.put(bytes.NewReader(data), data)
			if err != nil || written.Digest != digest(data) {
				t.Fatalf("%+v, %v", written, err)
			}
			// Two parts may have been on their way when it was killed.
			if sent := counted.sent.Load() - before; sent > 49<<20 {
				t.Errorf("the second upload sent %d of %d bytes", sent, len(data))
			}
			if got := read(t, s, u.URL, datastore.Range{}); !bytes.Equal(got, data) {
				t.Error("it is another object")
			}
			if left, err := os.ReadDir(u.State); err != nil || len(left) > 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
		})
	}
}

// killInTheMiddle begins an upload in a process of its own and kills that.
func killInTheMiddle(t *testing.T, u upload) {
	t.Helper()
	raw, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestKilledUpload$")
	child.Env = append(os.Environ(), uploadVariable+"="+string(raw))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadFull(out, make([]byte, len(hanging)))
	_ = child.Process.Signal(syscall.SIGKILL)
	_ = child.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

const hanging = "hanging\n"

type hang struct{}

func (hang) Read([]byte) (int, error) {
	_, _ = os.Stdout.WriteString(hanging)
	select {}
}
