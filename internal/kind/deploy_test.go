package kind_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/realtime"
)

func service(t *testing.T, k function.Kind, spec string) (*kind.Service, error) {
	t.Helper()
	parsed, err := document.DecodeObject([]byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	f, err := function.Parse(document.Object{"kind": string(k), "metadata": document.Object{"name": "f", "project": "p"}, "spec": parsed})
	if err != nil {
		t.Fatal(err)
	}
	return kind.Deploy(f)
}

const someCode = `"build": {"functionSourceCode": "eCA9IDE=", "origin_filename": "/somewhere/my-fn.py"}`

func TestDeployHandlers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ spec, file, handler, workdir string }{
		"of embedded code":       {`{"function_handler": "my-fn-nuclio:score", ` + someCode + `}`, "code/my-fn.py", "score", ""},
		"without a handler":      {`{` + someCode + `}`, "code/my-fn.py", "handler", ""},
		"the default one":        {`{"default_handler": "score", ` + someCode + `}`, "code/my-fn.py", "score", ""},
		"of a folder":            {`{"function_handler": "pkg/mod:score", "build": {"source": "/code"}}`, "", "pkg.mod:score", ""},
		"dotted":                 {`{"function_handler": "pkg.mod.score", "build": {"source": "/code"}}`, "", "pkg.mod:score", ""},
		"with a working folder":  {`{"function_handler": "sub#mod:score", "build": {"source": "/code"}}`, "", "mod:score", "sub"},
		"of the base spec":       {`{"base_spec": {"spec": {"handler": "m:score", "build": {"functionSourceCode": "eCA9IDE="}}}}`, "code/main.py", "score", ""},
		"a file on this machine": {`{"command": "/code/a.py", "function_handler": "a:score"}`, "/code/a.py", "score", ""},
		"of jobs, by the SDK":    {`{"function_kind": "mlrun", "default_handler": "train", "function_handler": "my-fn-nuclio:handler", ` + someCode + `}`, "code/my-fn.py", "train", ""},
		"of jobs, without one":   {`{"function_kind": "mlrun", ` + someCode + `}`, "code/my-fn.py", "handler", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := service(t, function.KindNuclio, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if s.File != c.file || s.Revision.Handler != c.handler || s.Workdir != c.workdir || s.Revision.Mode != realtime.ModeHandler {
				t.Errorf("file %q, handler %q, workdir %q", s.File, s.Revision.Handler, s.Workdir)
			}
		})
	}
}

func TestDeployTriggersAndScaling(t *testing.T) {
	t.Parallel()
	s, err := service(t, function.KindRemote, `{`+someCode+`, "min_replicas": 0, "max_replicas": 3, "readiness_timeout": 90,
		"config": {"spec.eventTimeout": "5s",
			"spec.triggers.http": {"kind": "http", "maxWorkers": 8, "workerAvailabilityTimeoutMilliseconds": 0,
				"attributes": {"port": 31234, "maxRequestBodySize": 1000, "cors": {"enabled": true, "allowOrigins": ["https://a"]}}},
			"spec.triggers.tick.tock": {"kind": "cron", "attributes": {"interval": "2s", "event": {"body": "b", "headers": {"n": 1}}}},
			"spec.triggers.off": {"kind": "kafka", "disabled": true}}}`)
	if err != nil {
		t.Fatal(err)
	}
	none := time.Duration(0)
	want := []realtime.Trigger{
		{Name: "http", Kind: "http", Workers: 8, AvailabilityTimeout: &none},
		{Name: "tick.tock", Kind: "cron", Cron: &realtime.Cron{Interval: 2 * time.Second, Body: "b", Headers: map[string]string{"n": "1"}}},
	}
	if diff := cmp.Diff(want, s.Revision.Triggers); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if s.Port != 31234 || s.Front.Limits.Body != 1000 || s.Front.CORS == nil || s.Front.CORS.Origins[0] != "https://a" {
		t.Errorf("port %d, front %+v", s.Port, s.Front)
	}
	if r := s.Revision; r.Replicas != (realtime.Replicas{Min: 0, Max: 3}) || r.ReadyTimeout != 90*time.Second || r.EventTimeout != 5*time.Second {
		t.Errorf("%+v", r)
	}
}

func TestDeployApplications(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec    string
		command string
		port    int
	}{
		"a command":          {`{"command": "serve --fast", "args": ["x y"], "internal_application_port": 8050}`, "serve|--fast|x y", 0},
		"its port is named":  {`{"command": "serve", "args": ["--port", "8050"], "internal_application_port": 8050}`, "serve|--port|${PORT}", 0},
		"a port of its own":  {`{"command": "serve", "internal_application_port": 9000}`, "serve", 9000},
		"no default trigger": {`{"command": "serve", "disable_default_http_trigger": true, "config": {"spec.triggers.http": {"kind": "http"}}}`, "serve", 0},
		"behind a client's proxy": {
			`{"command": "http://127.0.0.1:30000", "nuclio_runtime": "golang", "internal_application_port": 8050, ` + someCode + `,
			"env": [{"name": "SIDECAR_PORT", "value": "8050"}],
			"config": {"spec.sidecars": [{"image": "i", "command": "serve", "args": ["-v"], "ports": [{"name": "a", "containerPort": 8050}]}]}}`, "serve|-v", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := service(t, function.KindApplication, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.Revision.Command, "|"); got != c.command || s.Revision.Port != c.port || s.Go {
				t.Errorf("command %s, port %d, Go %v", got, s.Revision.Port, s.Go)
			}
		})
	}
}

func TestDeployRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind function.Kind
		spec string
		part string
	}{
		"another language":      {function.KindNuclio, `{"nuclio_runtime": "nodejs", ` + someCode + `}`, "nodejs"},
		"GPUs":                  {function.KindNuclio, `{"resources": {"limits": {"nvidia.com/gpu": "1"}}, ` + someCode + `}`, "GPUs"},
		"replicas crosswise":    {function.KindNuclio, `{"min_replicas": 5, "max_replicas": 2, ` + someCode + `}`, "min_replicas"},
		"a schedule that isn't": {function.KindNuclio, `{"config": {"spec.triggers.c": {"kind": "cron", "attributes": {"schedule": "often"}}}, ` + someCode + `}`, "often"},
		"too many threads":      {function.KindNuclio, `{"config": {"spec.triggers.h": {"kind": "http", "attributes": {"threads": 300}}}, ` + someCode + `}`, "from 1 to 256"},
		"two addresses":         {function.KindNuclio, `{"config": {"spec.triggers.a": {"kind": "http"}, "spec.triggers.b": {"kind": "http"}}, ` + someCode + `}`, "http"},
		"an image alone":        {function.KindApplication, `{"image": "nginx"}`, "no command"},
		"two names":             {function.KindNuclio, `{"config": {"spec.triggers.a": {"kind": "http", "name": "b"}}, ` + someCode + `}`, "its name is \"b\""},
		"an ingress":            {function.KindNuclio, `{"config": {"spec.triggers.h": {"kind": "http", "attributes": {"ingresses": {"0": {"host": "h", "paths": ["/"]}}}}}, ` + someCode + `}`, "API gateway"},
		"a sidecar":             {function.KindNuclio, `{"config": {"spec.sidecars": [{"name": "s", "image": "i"}]}, ` + someCode + `}`, "spec.sidecars"},
		"an init container":     {function.KindNuclio, `{"base_spec": {"spec": {"initContainers": [{"name": "s"}]}}, ` + someCode + `}`, "spec.initContainers"},
		"two programs":          {function.KindApplication, `{"command": "serve", "config": {"spec.sidecars": [{"name": "a"}, {"name": "b"}]}}`, "not 2"},
		"a silent application":  {function.KindApplication, `{"command": "serve", "disable_default_http_trigger": true}`, "http trigger"},
		"no time to end":        {function.KindNuclio, `{"config": {"spec.triggers.h": {"kind": "http", "workerTerminationTimeout": "soon"}}, ` + someCode + `}`, "workerTerminationTimeout"},
		"batches beside events": {function.KindNuclio, `{"config": {"spec.triggers.h": {"kind": "http", "workerAllocatorName": "w", "batch": {"mode": "enable"}}, "spec.triggers.c": {"kind": "cron", "workerAllocatorName": "w", "attributes": {"interval": "1s"}}}, ` + someCode + `}`, "share the workers w"},
		"a loud log":            {function.KindNuclio, `{"config": {"spec.loggerSinks": [{"level": "loud"}]}, ` + someCode + `}`, "loud"},
		"a source elsewhere":    {function.KindNuclio, `{"build": {"source": "git://x/y"}}`, "git://x/y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := service(t, c.kind, c.spec); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("error is %v, want an invalid %s", err, c.part)
			}
		})
	}
}

// TestDeployRefusesOtherTriggers: no kind of trigger that Nuclio has is taken and left without events.
func TestDeployRefusesOtherTriggers(t *testing.T) {
	t.Parallel()
	for _, other := range []string{
		"kafka", "kafka-cluster", "v3ioStream", "v3ioItemPoller", "rabbit-mq", "rabbitMq", "nats", "mqtt", "iotCoreMqtt", "kinesis", "pubsub", "eventhub", "kickstart", "",
	} {
		_, err := service(t, function.KindNuclio, `{"config": {"spec.triggers.in": {"kind": "`+other+`", "attributes": {"topics": ["t"]}}}, `+someCode+`}`)
		if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), `the trigger in is of the kind "`+other+`"`) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// TestDeployTakesWhatNuclioTakes: fields that mean the same, and those that mean nothing on one machine.
func TestDeployTakesWhatNuclioTakes(t *testing.T) {
	t.Parallel()
	s, err := service(t, function.KindNuclio, `{`+someCode+`, "description": "scores", "config": {
		"spec.waitReadinessTimeoutBeforeFailure": true, "spec.serviceType": "NodePort", "spec.disableSensitiveFieldsMasking": true,
		"spec.loggerSinks": [{"level": "Error", "sink": "a"}, {"level": "warning"}, {"sink": "b"}],
		"spec.triggers.http": {"kind": "http", "name": "http", "class": "sync", "numWorkers": 2, "maxWorkers": 9, "workerTerminationTimeout": "3s", "workerAllocatorName": "w",
			"attributes": {"ingresses": {}, "serviceType": "ClusterIP", "reduceMemoryUsage": true, "MaxRequestBodySize": 5}},
		"spec.triggers.tick": {"kind": "cron", "workerAllocatorName": "w", "attributes": {"schedule": "@hourly", "interval": "1s", "concurrencyPolicy": "Forbid", "event": {"body": {"n": 1}}}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []realtime.Trigger{
		{Name: "http", Kind: "http", Workers: 2, Termination: 3 * time.Second, Allocator: "w"},
		{Name: "tick", Kind: "cron", Allocator: "w", Cron: &realtime.Cron{Schedule: "@hourly", Interval: time.Second, Body: `{"n":1}`, Headers: map[string]string{}}},
	}
	if diff := cmp.Diff(want, s.Revision.Triggers); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if s.Revision.LogLevel != "warn" || !s.Revision.Patient || s.Revision.Description != "scores" || s.Front.Limits.Body != 5 {
		t.Errorf("%+v %+v", s.Revision, s.Front)
	}
}

func TestDeployFront(t *testing.T) {
	t.Parallel()
	deploy := func(attributes string) (*kind.Service, error) {
		return service(t, function.KindNuclio, `{`+someCode+`, "config": {"spec.triggers.http": {"kind": "http", "attributes": `+attributes+`}}}`)
	}
	s, err := deploy(`{"auth": {"keys": "KEYS", "basic": "USERS"}, "tls": {"certificate": "/c.pem", "key": "/k.pem"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if want := (&realtime.TLS{Certificate: "/c.pem", Key: "/k.pem"}); !cmp.Equal(s.Front.TLS, want) {
		t.Errorf("TLS %+v", s.Front.TLS)
	}
	auth, err := s.Front.Auth(map[string]string{"KEYS": "one\ntwo\n", "USERS": "ann:se:cret\n\nbob:pw\n"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (&realtime.Auth{Keys: []string{"one", "two"}, Basic: map[string]string{"ann": "se:cret", "bob": "pw"}}); !cmp.Equal(auth, want) {
		t.Errorf("auth %+v", auth)
	}
	for _, values := range []map[string]string{{}, {"KEYS": " \n", "USERS": "ann:pw"}, {"KEYS": "one"}, {"KEYS": "one", "USERS": "ann"}} {
		if auth, err := s.Front.Auth(values); fault.CodeOf(err) != fault.CodePrecondition {
			t.Errorf("%v: %+v, %v", values, auth, err)
		}
	}
	for attributes, want := range map[string]string{
		`{"auth": {"keyz": "KEYS"}}`:                            "names no secret",
		`{"tls": {"certificate": "c.pem", "key": "/k.pem"}}`:    "absolute paths",
		`{"cors": {"enabled": true, "allowCredentials": true}}`: "name the origins",
	} {
		if _, err := deploy(attributes); fault.CodeOf(err) != fault.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", attributes, err)
		}
	}
}

func TestDeployApplicationTriggers(t *testing.T) {
	t.Parallel()
	_, err := service(t, function.KindApplication, `{"command": "serve", "config": {"spec.triggers.tick": {"kind": "cron", "attributes": {"interval": "2s"}}}}`)
	if fault.CodeOf(err) != fault.CodeInvalid || !strings.Contains(err.Error(), "over HTTP only") {
		t.Errorf("%v", err)
	}
}
