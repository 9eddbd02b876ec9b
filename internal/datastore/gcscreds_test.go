package datastore

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

// TestGCSCredentials lets a service account get its token from a server that checks
// the signature, by each of the names, and the user's own credentials.
func TestGCSCredentials(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.FormValue("grant_type") {
		case "refresh_token":
			_, _ = io.WriteString(w, `{"access_token":"of the user","expires_in":3600}`)
			return
		default:
			head, signature, _ := strings.Cut(r.FormValue("assertion"), ".")
			claims, signature, _ := strings.Cut(signature, ".")
			raw, _ := base64.RawURLEncoding.DecodeString(signature)
			sum := sha256.Sum256([]byte(head + "." + claims))
			said, _ := base64.RawURLEncoding.DecodeString(claims)
			if rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], raw) != nil || !strings.Contains(string(said), gcsScope) {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
				return
			}
			_, _ = io.WriteString(w, `{"access_token":"of the account","expires_in":3600}`)
		}
	}))
	defer server.Close()
	account := func(key *rsa.PrivateKey) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(map[string]string{
			"type": "service_account", "client_email": "a@b", "private_key_id": "k", "token_uri": server.URL,
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	home := t.TempDir()
	file := filepath.Join(home, "account.json")
	if err := os.WriteFile(file, []byte(account(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(home, ".config", "gcloud", "application_default_credentials.json")
	user := `{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r","token_uri":"` + server.URL + `"}`
	if err := errors.Join(os.MkdirAll(filepath.Dir(own), 0o700), os.WriteFile(own, []byte(user), 0o600)); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		secrets map[string]string
		want    string
	}{
		"JSON":          {map[string]string{"GCP_CREDENTIALS": account(key)}, "of the account"},
		"file":          {map[string]string{"GCP_CREDENTIALS": file}, "of the account"},
		"JSON, by name": {map[string]string{"GOOGLE_APPLICATION_CREDENTIALS_JSON": account(key)}, "of the account"},
		"file, by name": {map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file}, "of the account"},
		"of the user":   {map[string]string{"HOME": home}, "of the user"},
		"emulator":      {map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file, "STORAGE_EMULATOR_HOST": "localhost:1"}, ""},
		"none":          {nil, ""},
	} {
		tokens, err := gcsTokens(func(name string) string { return c.secrets[name] })
		if err != nil || (tokens == nil) != (c.want == "") {
			t.Errorf("%s: %v, %v", what, tokens, err)
			continue
		}
		if tokens == nil {
			continue
		}
		if token, err := tokens.Token(); err != nil || token.AccessToken != c.want {
			t.Errorf("%s: %v, %v", what, token, err)
		}
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := openGCS("data", opening{lookup: func(name string) string {
		return map[string]string{"GCP_CREDENTIALS": account(other)}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.stat(context.Background(), "x"); !fault.Is(err, fault.CodeUnauthorized) {
		t.Errorf("the key of another account: %v", err)
	}
}

// TestDamagedObject reads from a server that tells another sum than its bytes have.
func TestDamagedObject(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Goog-Hash", "crc32c="+crcText(1)+",md5=x")
		_, _ = io.WriteString(w, "bytes")
	}))
	defer server.Close()
	opened, err := openGCS("data", opening{lookup: func(name string) string {
		return map[string]string{"STORAGE_EMULATOR_HOST": server.URL}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := opened.open(context.Background(), "x", Range{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(body); !fault.Is(err, fault.CodeUnavailable) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}
