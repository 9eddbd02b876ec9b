package api

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

func TestCanonicalPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/api/v1/projects": "/v1/projects", "//api/v1//projects/": "/v1/projects", "/api/projects": "/v1/projects",
		"/api/v2/healthz": "/v2/healthz", "/api/v1/projects/p/artifacts/a/b": "/v1/projects/p/artifacts/a/b",
		"/api/v1/projects/a%2Fb": "/v1/projects/a%2Fb", "/api/v1": "/v1", "/api": "-", "/": "-", "": "-", "/other/v1": "-",
		"/api/v1/../x": "-", "/api/./v1": "-", "/api/v3/x": "/v1/v3/x",
	} {
		got, ok := canonicalPath(in)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseBool(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"True": true, "yes": true, "ON": true, "1": true, "t": true, "Y": true, "False": false, "no": false, "0": false, "off": false} {
		if got, err := parseBool("x", text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"2", "maybe", " true", strings.Repeat("a", 10000)} {
		if _, err := parseBool("x", text); !fault.Is(err, fault.CodeInvalid) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestParseLabels(t *testing.T) {
	t.Parallel()
	got, err := parseLabels([]string{"a", " a = b=c ", "~ow=~adm", "~team", "k="})
	want := []store.LabelFilter{
		{Key: "a", Value: "b=c", HasValue: true}, {Key: "ow", Value: "adm", HasValue: true, KeyContains: true, ValueContains: true},
		{Key: "team", KeyContains: true}, {Key: "k", HasValue: true},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %+v, want %+v", i, got[i], want[i])
		}
	}
	for _, bad := range []string{"=v", " ", "~"} {
		if _, err := parseLabels([]string{bad}); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseTimeRepairsABlankForAPlus(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"2024-10-23T08:15:52+00:00", "2024-10-23T08:15:52 00:00", "2024-10-23T08:15:52", "2024-10-23 08:15:52", "2024-10-23T10:15:52.000+02:00"} {
		at, err := parseTime("since", text)
		if err != nil || !at.Equal(time.Date(2024, 10, 23, 8, 15, 52, 0, time.UTC)) {
			t.Errorf("%q: %v %v", text, at, err)
		}
	}
}

func TestPageTokenOnlyFitsItsList(t *testing.T) {
	t.Parallel()
	p := pageRequest{number: 3, size: 20, list: "listRuns/demo", filter: url.Values{"label": {"a=b", "c"}, "iter": {"no"}}}
	token := pageToken(p)
	got, err := parsePageToken("listRuns/demo", token)
	if err != nil || got.number != 3 || got.size != 20 || got.filter.Encode() != p.filter.Encode() {
		t.Fatalf("%+v %v", got, err)
	}
	for _, c := range []struct{ list, token string }{
		{"listRuns/other", token}, {"listRuns/demo", token[:len(token)-3] + "AAA"}, {"listRuns/demo", "no token"}, {"listRuns/demo", "AAAA"}, {"listRuns/demo", ""},
	} {
		if _, err := parsePageToken(c.list, c.token); !fault.Is(err, fault.CodeNotFound) {
			t.Errorf("%s %s: %v", c.list, c.token, err)
		}
	}
}

func TestSessionToken(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		`session=j:{"sid": "aaaa-bbbb"}`:             "aaaa-bbbb",
		`a=b; session=j:{"sid":"x"}; c=d`:            "x",
		`session=j%3A%7B%22sid%22%3A%20%22x-y%22%7D`: "x-y",
		`session="j:{\"sid\": \"quoted\"}"`:          "quoted",
		`session=other`:                              "",
		`session=j:{"sid": 3}`:                       "",
		`nosession=j:{"sid": "x"}`:                   "",
		"":                                           "",
	} {
		if got := sessionToken([]string{header}); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

func TestCheckExposure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address, token string
		open, ok       bool
	}{
		{"127.0.0.1:8080", "", false, true}, {"localhost:0", "", false, true}, {"[::1]:80", "", false, true}, {"127.1.2.3:1", "", false, true},
		{"0.0.0.0:8080", "", false, false}, {":8080", "", false, false}, {"10.0.0.1:1", "", false, false}, {"example.org:80", "", false, false},
		{"0.0.0.0:8080", "secret", false, true}, {":8080", "", true, true}, {"nonsense", "secret", false, false},
	} {
		if err := CheckExposure(c.address, c.token, c.open); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestRenderError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{fault.NotFound("no %s", "run"), 404, `{"detail":"MLRunNotFoundError('no run')"}`},
		{fault.Invalid("it's \"x\"\n"), 400, `{"detail":"MLRunInvalidArgumentError('it\\'s \"x\"\\n')"}`},
		{withReason(fault.Invalid("bad")), 400, `{"detail":{"reason":"bad"}}`},
		{errorString("secret detail"), 500, `{"detail":"MLRunInternalServerError('internal error')"}`},
	} {
		if status, body := renderError(c.err); status != c.status || string(body) != c.body {
			t.Errorf("%v: %d %s, want %d %s", c.err, status, body, c.status, c.body)
		}
	}
}

func TestEveryFaultHasAStatus(t *testing.T) {
	t.Parallel()
	for code, known := range failures {
		if known.status < 400 || http.StatusText(known.status) == "" || known.class == "" {
			t.Errorf("%s: %+v", code, known)
		}
	}
}

func FuzzPageToken(f *testing.F) {
	f.Add(pageToken(pageRequest{number: 1, size: 20, list: "listRuns/p", filter: url.Values{"a": {"b"}}}))
	f.Add("AAAAAA")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parsePageToken("listRuns/p", token)
		if err != nil {
			if !fault.Is(err, fault.CodeNotFound) {
				t.Fatal(err)
			}
			return
		}
		if p.number < 1 || p.size < 1 || p.window().Offset < 0 {
			t.Fatalf("%+v", p)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, text := range []string{"a=b", "~a=~b", "yes", "2024-10-23T08:15:52 00:00", "-1", "9223372036854775808", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, e1 := parseBool("x", text)
		_, e2 := parseInt("x", text, 0)
		_, e3 := parseTime("x", text)
		labels, e4 := parseLabels([]string{text, "k"})
		_, e5 := selector(text)
		for _, err := range []error{e1, e2, e3, e4, e5} {
			if err != nil && !fault.Is(err, fault.CodeInvalid) {
				t.Fatal(err)
			}
		}
		for _, l := range labels {
			if l.Key == "" && !l.KeyContains {
				t.Fatalf("a label filter without a key: %+v", l)
			}
		}
		if name := parseName(text); name.Contains != strings.HasPrefix(text, "~") {
			t.Fatalf("%+v", name)
		}
		document.Encode(pythonRepr(text))
	})
}
