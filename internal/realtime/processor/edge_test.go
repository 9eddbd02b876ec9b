package processor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	serial "math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// certificate writes a self-signed pair for 127.0.0.1.
func certificate(t *testing.T) *realtime.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := &realtime.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, block := range map[string]*pem.Block{files.Certificate: {Type: "CERTIFICATE", Bytes: public}, files.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// What Desired says of clients holds on the socket and on the own address, and
// changes while the function serves.
func TestEdge(t *testing.T) {
	t.Parallel()
	f := deploy(t, "def handler(context, event):\n    return 'authorized by ' + event.headers.get('Authorization', 'nobody')\n", workers(1))
	if a := f.get("/"); a.status != 200 {
		t.Fatalf("open: %d %q %v", a.status, a.body, a.err)
	}
	d := f.desired(realtime.Route{Revision: 1, Weight: 100})
	d.Auth = &realtime.Auth{Keys: []string{"the-key"}}
	d.CORS = &realtime.CORS{Origins: []string{"https://page.example"}}
	d.Limits.Body = 100
	d.TLS = certificate(t)
	status, err := f.client.Apply(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	if !status.TLS || status.Message != "" {
		t.Errorf("status %+v", status)
	}
	own := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute}
	defer own.CloseIdleConnections()
	overTLS := func(body string, header ...string) (int, string) {
		request, err := http.NewRequest("POST", "https://"+status.Address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := own.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(raw)
	}
	if status, _ := overTLS(""); status != 401 {
		t.Errorf("own address, nobody: %d", status)
	}
	if status, got := overTLS("", "Authorization", "Bearer the-key"); status != 200 || got != "authorized by nobody" {
		t.Errorf("own address: %d %q", status, got)
	}
	if status, _ := overTLS(strings.Repeat("x", 101), "X-API-Key", "the-key"); status != 413 {
		t.Errorf("own address, large: %d", status)
	}
	if a := f.get("/"); a.status != 401 || strings.Contains(a.body, "the-key") {
		t.Errorf("socket, nobody: %d %q", a.status, a.body)
	}
	if a := f.post("/", "", "X-API-Key", "the-key", "Origin", "https://page.example"); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "https://page.example" {
		t.Errorf("socket: %d %q %v", a.status, a.body, a.header)
	}
	if a := f.post("/", "", "X-API-Key", "the-key", "Origin", "https://other.example"); a.status != 403 {
		t.Errorf("socket, other origin: %d %q", a.status, a.body)
	}
	// A certificate that cannot be read is said, and the earlier one serves on.
	d.TLS = &realtime.TLS{Certificate: "/no/such/cert", Key: "/no/such/key"}
	status, err = f.client.Apply(context.Background(), d)
	if err != nil || !strings.Contains(status.Message, "certificate") || !status.TLS {
		t.Errorf("status %+v, %v", status, err)
	}
	if status, _ := overTLS("", "X-API-Key", "the-key"); status != 200 {
		t.Errorf("after a certificate that cannot be read: %d", status)
	}
	d.CORS = &realtime.CORS{Credentials: true}
	if _, err := f.client.Apply(context.Background(), d); err == nil || !strings.Contains(err.Error(), "name the origins") {
		t.Errorf("credentials of any origin: %v", err)
	}
	f.apply(realtime.Route{Revision: 1, Weight: 100})
	if a := f.get("/"); a.status != 200 {
		t.Errorf("open again: %d %q", a.status, a.body)
	}
}
