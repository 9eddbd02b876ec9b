package api_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := start(t)
	const p = "/api/v1/projects/demo"
	s.do("POST", p+"/secrets", `{"provider":"kubernetes","secrets":{"AWS_KEY":"a very hidden value","b.c-d":"other"}}`).is(201)
	s.do("POST", p+"/secrets", `{"secrets":{"AWS_KEY":"an even better hidden value"}}`).is(201)
	s.do("GET", p+"/secret-keys?provider=kubernetes", nil).is(200).says(`{"provider":"kubernetes","secret_keys":["AWS_KEY","b.c-d"]}`)
	s.do("GET", p+"/secrets?provider=kubernetes&secrets=AWS_KEY", nil).is(403)
	for body, status := range map[string]int{
		`{"secrets":{"bad key":"x"}}`: 400, `{"secrets":{"mlrun.schedules.x":"x"}}`: 403, `{"secrets":{"A":3}}`: 400, `{"secrets":{"A":""}}`: 400,
		`{"provider":"vault","secrets":{"A":"x"}}`: 400, `{"secrets":[]}`: 400, `{"secrets":{"good":"x1","bad key":"x2"}}`: 400,
	} {
		s.do("POST", p+"/secrets", body).is(status)
	}
	s.do("POST", "/api/v1/projects/none/secrets", `{"secrets":{"A":"x"}}`).is(404)
	s.do("GET", p+"/secret-keys?provider=vault", nil).is(400)
	s.do("DELETE", p+"/secrets?secret=mlrun.x", nil).is(403)
	s.do("POST", "/api/v1/millrace/secrets/rotate", nil).is(200).says(`{"secrets":2}`)
	s.do("DELETE", p+"/secrets?provider=kubernetes&secret=b.c-d", "null").is(204)
	s.do("GET", p+"/secret-keys", nil).is(200).says(`["AWS_KEY"]`)

	s.do("POST", runs+"/u1", `{"metadata":{"name":"r"},"spec":{"secret_sources":[{"kind":"inline","source":{"K":"inline hidden value"}}]}}`).is(200)
	if got := s.do("GET", runs+"/u1", nil).is(200); strings.Contains(string(got.body), "hidden value") {
		t.Errorf("a value is shown: %s", got.body)
	}
	for _, name := range []string{"millrace.db", "millrace.db-wal"} {
		raw, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("hidden value")) {
			t.Errorf("%s contains a value", name)
		}
	}
	s.do("DELETE", p+"/secrets", nil).is(204)
	s.do("GET", p+"/secret-keys", nil).is(200).says(`"secret_keys":[]`)
}
