package processor_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// mapping returns each sort of value that a handler may return, by the path.
const mapping = `
import asyncio, datetime, json

class Thing:
    def __str__(self):
        return "a thing"

def pieces():
    yield "one,"
    yield b"two,"
    yield {"three": 3}

def broken():
    yield "begun"
    raise ValueError("half way")

async def apieces():
    for i in range(3):
        await asyncio.sleep(0)
        yield str(i)

def handler(context, event):
    R = context.Response
    path = event.path.strip("/")
    if path == "raise":
        raise ValueError("no such thing: %s" % event.body)
    if path == "exit":
        raise SystemExit(3)
    return {
        "str": lambda: "text", "unicode": lambda: "grün", "bytes": lambda: b"\x00\xff", "dict": lambda: {"a": [1, None, True]},
        "status_str": lambda: (201, "made"), "status_other": lambda: (202, [1, 2]), "status_bytes": lambda: (203, b"raw"),
        "triple": lambda: (1, 2, 3), "pair": lambda: ("a", "b"), "none": lambda: None, "number": lambda: 4.5, "thing": Thing,
        "bool": lambda: True, "list": lambda: [{"a": 1}, "b"], "empty_list": lambda: [], "nan": lambda: {"x": float("nan"), "y": float("inf"), "z": -float("inf")},
        "response_dict": lambda: R(body={"a": 1}, content_type="text/html", status_code=201),
        "response_bytes": lambda: R(body=b"raw", content_type="image/png"), "response_bytes_plain": lambda: R(body=b"raw"),
        "response_list": lambda: R(body=[1, "a"]), "response_none": lambda: R(status_code=202), "response_text": lambda: R(body="<p>", content_type="text/html"),
        "headers": lambda: R(body="", headers={"X-Text": "a", "X-Number": 5, "X-Float": 1.5, "X-True": True, "Set-Cookie": ["a=1", "b=2"]}),
        "bad_header": lambda: R(body="fine", headers={"X-Split": "a\r\nX-Injected: 1", "bad name": "1", "X-Good": "yes"}),
        "own_length": lambda: R(body="four", headers={"Content-Length": "400", "Transfer-Encoding": "chunked", "Connection": "close"}),
        "status_300": lambda: R(status_code=302, headers={"Location": "/elsewhere"}), "status_404": lambda: R(body="none such", status_code=404),
        "status_bad": lambda: R(status_code=42), "set": lambda: {"a": {1, 2}}, "date": lambda: {"a": datetime.date(2020, 1, 1)},
        "stream": pieces, "stream_response": lambda: R(body=pieces(), content_type="text/event-stream", status_code=201, headers={"X-A": "b"}),
        "stream_broken": broken, "stream_async": apieces, "big": lambda: "x" * 5_000_000,
        "file": lambda: R(headers={"X-nuclio-filestream-path": event.fields["path"]}, content_type="text/csv"),
        "file_delete": lambda: R(headers={"x-nuclio-filestream-path": event.fields["path"], "x-nuclio-filestream-delete-after-send": "1"}),
    }[path]()
`

// TestReturnMapping is the table of what a handler may return.
func TestReturnMapping(t *testing.T) {
	t.Parallel()
	f := deploy(t, mapping, workers(2))
	const text, object = "text/plain", "application/json"
	for _, row := range []struct {
		path   string
		status int
		kind   string
		body   string
	}{
		{"str", 200, text, "text"}, {"unicode", 200, text, "grün"}, {"bytes", 200, text, "\x00\xff"},
		{"dict", 200, object, `{"a": [1, null, true]}`}, {"status_str", 201, text, "made"}, {"status_other", 202, object, "[1, 2]"},
		{"status_bytes", 203, text, "raw"}, {"triple", 200, text, "(1, 2, 3)"}, {"pair", 200, text, "('a', 'b')"},
		{"none", 204, "", ""}, {"number", 200, text, "4.5"}, {"thing", 200, text, "a thing"}, {"bool", 200, text, "True"},
		{"list", 200, object, `[{"a": 1}, "b"]`}, {"empty_list", 200, object, "[]"},
		{"nan", 200, object, `{"x": "NaN", "y": "Infinity", "z": "-Infinity"}`},
		{"response_dict", 201, object, `{"a": 1}`}, {"response_bytes", 200, "image/png", "raw"}, {"response_bytes_plain", 200, text, "raw"},
		{"response_list", 200, object, `[1, "a"]`}, {"response_none", 202, text, ""}, {"response_text", 200, "text/html", "<p>"},
		{"own_length", 200, text, "four"}, {"status_404", 404, text, "none such"},
		{"stream", 200, text, `one,two,{"three": 3}`}, {"stream_response", 201, "text/event-stream", `one,two,{"three": 3}`}, {"stream_async", 200, text, "012"},
		{"big", 200, text, strings.Repeat("x", 5_000_000)},
	} {
		t.Run(row.path, func(t *testing.T) { f.get("/"+row.path).expect(t, row.status, row.kind, row.body) })
	}
	for path, part := range map[string]string{
		"raise": "no such thing", "exit": "SystemExit", "status_bad": "status 42", "set": "type set has no form", "date": "type date has no form",
	} {
		t.Run(path, func(t *testing.T) {
			a := f.get("/" + path)
			if a.err != nil || a.status != 500 || !strings.Contains(a.body, part) || a.header.Get("Content-Type") != "text/plain" {
				t.Errorf("answer %d %q %v; want 500 that tells of %q", a.status, a.body, a.err, part)
			}
		})
	}
	// None of it has cost a worker.
	status := f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Workers == 2 })
	if restarts := status.Revisions[0].Triggers[0].Restarts; restarts != 0 {
		t.Errorf("%d workers were replaced", restarts)
	}
	if failed := status.Revisions[0].Triggers[0].Failed; failed != 5 {
		t.Errorf("%d events count as failed; want 5", failed)
	}
}

func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	f := deploy(t, mapping, nil)
	a := f.get("/headers")
	for name, value := range map[string]string{"X-Text": "a", "X-Number": "5", "X-Float": "1.5", "X-True": "true"} {
		if got := a.header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if got := a.header["Set-Cookie"]; len(got) != 2 {
		t.Errorf("Set-Cookie: %q, want both", got)
	}
	a = f.get("/bad_header")
	if a.status != 200 || a.header.Get("X-Injected") != "" || a.header.Get("X-Good") != "yes" || a.body != "fine" {
		t.Errorf("a handler put a line into the head: %d %v %q", a.status, a.header, a.body)
	}
	f.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a = f.get("/status_300"); a.status != 302 || a.header.Get("Location") != "/elsewhere" {
		t.Errorf("redirect: %d %v", a.status, a.header)
	}
}

// TestBrokenStream: a body that ends half way is not taken for a whole one.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	f := deploy(t, mapping, nil)
	if a := f.get("/stream_broken"); a.err == nil || a.body != "begun" {
		t.Errorf("body %q, error %v; want what there was and an error", a.body, a.err)
	}
	f.get("/str").expect(t, 200, "text/plain", "text")
}

func TestFileResponse(t *testing.T) {
	t.Parallel()
	f := deploy(t, mapping, nil)
	path := filepath.Join(t.TempDir(), "data.csv")
	content := strings.Repeat("a,b\n", 200_000)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	a := f.get("/file?path=" + path)
	a.expect(t, 200, "text/csv", content)
	for name := range a.header {
		if strings.Contains(strings.ToLower(name), "filestream") {
			t.Errorf("the header %s left the machine", name)
		}
	}
	f.get("/file_delete?path="+path).expect(t, 200, "text/plain", content)
	deleted := func() bool { _, err := os.Stat(path); return os.IsNotExist(err) }
	for deadline := time.Now().Add(10 * time.Second); !deleted(); time.Sleep(time.Millisecond) { // after its last byte was sent
		if time.Now().After(deadline) {
			t.Fatal("the file is not deleted")
		}
	}
	if a := f.get("/file?path=" + path); a.status != 404 {
		t.Errorf("a file that is missing: %d", a.status)
	}
	if a := f.get("/file?path=" + t.TempDir()); a.status != 500 {
		t.Errorf("a folder instead of a file: %d", a.status)
	}
}

// seen tells what the handler sees of an event.
const seen = `
import json

def handler(context, event):
    if event.path == "/body":
        return "%s %r" % (type(event.body).__name__, event.body)
    if event.path == "/log":
        context.logger.debug("quiet")
        context.logger.info_with("told", who=event.method)
        context.logger.bind(a=1).warn("also %s", "this")
        return "logged"
    if event.path == "/flood":
        context.logger.info("x" * 5000)
        return "flooded"
    body = event.body
    return {
        "id": event.id, "method": event.method, "path": event.path, "url": event.url, "content_type": event.content_type, "fields": event.fields,
        "headers": event.headers, "size": event.size, "shard_id": event.shard_id, "num_shards": event.num_shards, "type": event.type,
        "type_version": event.type_version, "version": event.version, "offset": event.offset, "topic": event.topic, "last": event.last_in_batch,
        "trigger": [event.trigger.kind, event.trigger.name], "timestamp": str(event.timestamp), "zone": str(event.timestamp.tzinfo),
        "agent": event.get_header("x-ASKED"), "context": [context.worker_id, context.trigger.kind, context.trigger.name, context.trigger_name],
        "user_data": getattr(context.user_data, "made", None), "body": body if not isinstance(body, bytes) else body.decode("latin-1"),
    }

def init_context(context):
    context.user_data.made = "once"
`

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestEventFields(t *testing.T) {
	t.Parallel()
	f := deploy(t, seen, workers(1))
	a := f.post("/some/path?a=1&b=2&a=3&c", "hello", "Content-Type", "text/csv", "X-Asked", "yes").value(t)
	for name, want := range map[string]string{
		"method": `"POST"`, "path": `"/some/path"`, "url": `""`, "content_type": `"text/csv"`, "fields": `{"a":"3","b":"2","c":""}`, "size": "5",
		"shard_id": "-1", "num_shards": "0", "type": `""`, "type_version": `""`, "version": `""`, "offset": "0", "topic": `""`,
		"trigger": `["http","http"]`, "zone": `"None"`, "agent": `"yes"`, "context": `["0","http","http","http"]`, "user_data": `"once"`, "body": `"hello"`,
	} {
		if got, _ := json.Marshal(a[name]); string(got) != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if headers, _ := a["headers"].(map[string]any); headers["X-Asked"] != "yes" || headers["Content-Type"] != "text/csv" || headers["Host"] != "function" {
		t.Errorf("headers: %v", a["headers"])
	}
	id, _ := a["id"].(string)
	if !uuid4.MatchString(id) {
		t.Errorf("id %q is no UUID", id)
	}
	if again := f.post("/", "").value(t)["id"]; again == id {
		t.Errorf("two events have the id %s", id)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	f := deploy(t, seen, nil)
	for _, row := range []struct{ kind, body, want string }{
		{"application/json", `{"a": 1}`, "dict {'a': 1}"}, {"application/json; charset=utf-8", `[1]`, "list [1]"}, {"application/vnd.api+json", `1`, "int 1"},
		{"APPLICATION/JSON", `"x"`, "str 'x'"}, {"application/json", `{"a": `, `bytes b'{"a": '`}, {"application/json", "\xff", `bytes b'\xff'`},
		{"application/json", "", "bytes b''"}, {"text/plain", "12", "bytes b'12'"}, {"", "\x00\xff", `bytes b'\x00\xff'`},
		{"application/jsonl", "1\n2", `bytes b'1\n2'`}, {"application/json", strings.Repeat("[", 100_000), ""},
	} {
		a := f.post("/body", row.body, "Content-Type", row.kind)
		if a.status != 200 || row.want != "" && a.body != row.want {
			t.Errorf("%s %.20q: %d %.80q, want %q", row.kind, row.body, a.status, a.body, row.want)
		}
	}
}

func TestLogCapture(t *testing.T) {
	t.Parallel()
	f := deploy(t, seen, nil)
	a := f.post("/log", "", "X-Nuclio-Log-Level", "info")
	var records []map[string]any
	if err := json.Unmarshal([]byte(a.header.Get("X-Nuclio-Logs")), &records); err != nil || len(records) != 2 {
		t.Fatalf("X-Nuclio-Logs: %q", a.header.Get("X-Nuclio-Logs"))
	}
	if records[0]["message"] != "told" || records[0]["level"] != "info" || records[0]["who"] != "POST" || records[0]["time"] == nil {
		t.Errorf("first record: %v", records[0])
	}
	if records[1]["message"] != "also this" || records[1]["level"] != "warn" || records[1]["a"] != 1.0 {
		t.Errorf("second record: %v", records[1])
	}
	if a := f.post("/log", "", "X-Nuclio-Log-Level", "debug"); strings.Count(a.header.Get("X-Nuclio-Logs"), `"message"`) != 3 {
		t.Errorf("debug: %q", a.header.Get("X-Nuclio-Logs"))
	}
	if a := f.post("/flood", "", "X-Nuclio-Log-Level", "info"); a.status != 200 || a.header.Get("X-Nuclio-Logs") != "" {
		t.Errorf("records that no header takes: %d, %d bytes", a.status, len(a.header.Get("X-Nuclio-Logs")))
	}
	if a := f.get("/log"); a.header.Get("X-Nuclio-Logs") != "" {
		t.Error("records that nobody asked for")
	}
}

func TestCloudEvents(t *testing.T) {
	t.Parallel()
	f := deploy(t, seen, nil)
	structured := `{"cloudEventsVersion": "0.1", "eventType": "made", "eventTypeVersion": "7", "source": "/sensors", "eventID": "e-1",
		"eventTime": "2018-04-05T17:31:00Z", "contentType": "application/json", "extensions": {"X-Ext": "val"}, "data": {"n": 5}}`
	a := f.post("/x", structured, "Content-Type", "application/cloudevents+json; charset=utf-8").value(t)
	for name, want := range map[string]string{
		"id": `"e-1"`, "type": `"made"`, "type_version": `"7"`, "version": `"0.1"`, "trigger": `["/sensors","/sensors"]`, "content_type": `"application/json"`,
		"timestamp": `"2018-04-05 17:31:00"`, "headers": `{"X-Ext":"val"}`, "body": `{"n":5}`,
	} {
		if got, _ := json.Marshal(a[name]); string(got) != want {
			t.Errorf("structured: %s is %s, want %s", name, got, want)
		}
	}
	a = f.post("/x", "raw", "CE-CloudEventsVersion", "0.1", "CE-EventID", "e-2", "CE-Source", "src", "CE-Name", "nam", "CE-EventType", "made",
		"CE-EventTypeVersion", "7", "CE-EventTime", "2018-04-05T17:31:00Z", "Content-Type", "text/plain").value(t)
	for name, want := range map[string]string{
		"id": `"e-2"`, "type": `"made"`, "type_version": `"7"`, "version": `"0.1"`, "trigger": `["src","nam"]`, "body": `"raw"`,
		"timestamp": `"2018-04-05 17:31:00"`, "content_type": `"text/plain"`,
	} {
		if got, _ := json.Marshal(a[name]); string(got) != want {
			t.Errorf("binary: %s is %s, want %s", name, got, want)
		}
	}
	for _, bad := range []string{`{"cloudEventsVersion": `, `[1]`, `{"eventTime": "yesterday", "cloudEventsVersion": "0.1"}`} {
		if a := f.post("/x", bad, "Content-Type", "application/cloudevents+json"); a.status != 400 {
			t.Errorf("%s: %d %q, want 400", bad, a.status, a.body)
		}
	}
}
