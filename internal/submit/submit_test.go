package submit_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/submit"
)

func decode(t *testing.T, text string) document.Object {
	t.Helper()
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return doc
}

const job = `{"kind":"job","metadata":{"name":"trainer","project":"demo"},"spec":{"image":"x","default_handler":"pkg.mod.train","workdir":"/w"}}`

func input(t *testing.T, task, fn, project string) submit.Input {
	in := submit.Input{
		Task: decode(t, task), Function: decode(t, fn), ArtifactPath: "/data/{{project}}",
		NewUID: func() string { return "0123456789abcdef" }, ClientVersion: "1.10.0", PythonVersion: "3.11.7", RemoteUser: "ada",
	}
	if project != "" {
		in.Project = decode(t, project)
	}
	return in
}

func TestEnrichFillsWhatIsLeftOpen(t *testing.T) {
	t.Parallel()
	in := input(t, `{"metadata":{},"spec":{"parameters":{"lr":1}},"status":{"state":"running"}}`, job, "")
	before := string(document.Encode(document.Object{"t": in.Task, "f": in.Function}))
	fn, run, err := submit.Enrich(in)
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, `{"kind":"run",
		"metadata":{"iteration":0,"name":"trainer-train","project":"demo","uid":"0123456789abcdef","labels":{
			"kind":"job","owner":"ada","v3io_user":"ada","mlrun/client_version":"1.10.0","mlrun/client_python_version":"3.11.7"}},
		"spec":{"handler":"pkg.mod.train","input_path":"/w","output_path":"/data/demo","parameters":{"lr":1},"scrape_metrics":true,
			"state_thresholds":{"executing":"24h","image_pull_backoff":"1h","pending_not_scheduled":"-1","pending_scheduled":"1h"}},
		"status":{"state":"created"}}`)
	if got, want := string(document.Encode(run)), string(document.Encode(want)); got != want {
		t.Errorf("run\n got %s\nwant %s", got, want)
	}
	if document.String(fn, "spec", "image") != "x" {
		t.Errorf("function changed: %s", document.Encode(fn))
	}
	if after := string(document.Encode(document.Object{"t": in.Task, "f": in.Function})); after != before {
		t.Errorf("the input was changed: %s", after)
	}
}

func TestEnrichPrefers(t *testing.T) {
	t.Parallel()
	const project = `{"spec":{"artifact_path":"s3://p/{{run.project}}/{{run.uid}}/{{run.user}}","default_image":"base","default_function_node_selector":{"a":"1","b":"1"}}}`
	for name, c := range map[string]struct {
		task, fn, project string
		path              []string
		want              string
	}{
		"the task's handler":     {`{"spec":{"handler":"go"}}`, job, "", []string{"spec", "handler"}, `"go"`},
		"the task's name":        {`{"metadata":{"name":"mine"}}`, job, "", []string{"metadata", "name"}, `"mine"`},
		"the task's uid":         {`{"metadata":{"uid":"u1"}}`, job, "", []string{"metadata", "uid"}, `"u1"`},
		"the task's owner":       {`{"metadata":{"labels":{"owner":"bob"}}}`, job, "", []string{"metadata", "labels", "owner"}, `"bob"`},
		"a name after #":         {`{"spec":{"handler":"Cls#My_Method"}}`, job, "", []string{"metadata", "name"}, `"trainer-my-method"`},
		"the project's path":     {`{}`, job, project, []string{"spec", "output_path"}, `"s3://p/demo/0123456789abcdef/ada"`},
		"the task's path":        {`{"spec":{"output_path":"/o/{{run.uid}}"}}`, job, project, []string{"spec", "output_path"}, `"/o/0123456789abcdef"`},
		"the task's thresholds":  {`{"spec":{"state_thresholds":{"executing":"2h"}}}`, job, "", []string{"spec", "state_thresholds", "executing"}, `"2h"`},
		"merged node selectors":  {`{"spec":{"node_selector":{"b":"2"}}}`, job, project, []string{"spec", "node_selector"}, `{"a":"1","b":"2"}`},
		"no metrics if told so":  {`{"spec":{"scrape_metrics":false}}`, job, "", []string{"spec", "scrape_metrics"}, `false`},
		"a float beyond int64":   {`{"spec":{"parameters":{"x":1e30}}}`, job, "", []string{"spec", "parameters", "x"}, `1e30`},
		"the smallest of int64s": {`{"spec":{"parameters":{"x":-9223372036854775808}}}`, job, "", []string{"spec", "parameters", "x"}, `-9223372036854775808`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, run, err := submit.Enrich(input(t, c.task, c.fn, c.project))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(document.Encode(document.Get(run, c.path...))); got != c.want {
				t.Errorf("%v is %s, want %s", c.path, got, c.want)
			}
		})
	}
	fn, _, err := submit.Enrich(input(t, `{}`, `{"kind":"job","metadata":{"name":"f","project":"demo"}}`, project))
	if err != nil || document.String(fn, "spec", "image") != "base" {
		t.Errorf("the project's image is not taken: %v %s", err, document.Encode(fn))
	}
}

func TestEnrichRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ task, fn, say string }{
		"local kinds":             {`{}`, `{"kind":"local","metadata":{"name":"f","project":"demo"}}`, "Local runtimes can not be run through API"},
		"no project":              {`{}`, `{"kind":"job","metadata":{"name":"f"}}`, "metadata.project must be given"},
		"a bad project":           {`{"metadata":{"project":"A_B"}}`, job, "metadata.project"},
		"a uid that is a path":    {`{"metadata":{"uid":"../../x"}}`, job, "metadata.uid"},
		"a name that is no label": {`{"metadata":{"name":"a b"}}`, job, "metadata.name"},
		"an iteration":            {`{"metadata":{"iteration":3}}`, job, "metadata.iteration"},
		"inputs that are numbers": {`{"spec":{"inputs":{"d":1}}}`, job, "spec.inputs.d must be a string"},
		"inputs that are a list":  {`{"spec":{"inputs":[]}}`, job, "spec.inputs must be an object"},
		"an integer over int64":   {`{"spec":{"parameters":{"x":9223372036854775808}}}`, job, "spec.parameters.x: parameter value 9223372036854775808 exceeds int64"},
		"a nested one":            {`{"spec":{"hyperparams":{"x":[1,{"y":-9223372036854775809}]}}}`, job, "spec.hyperparams.x[1].y"},
		"unknown templates":       {`{"spec":{"output_path":"/x/{{run.name}}"}}`, job, "spec.output_path"},
		"unknown threshold":       {`{"spec":{"state_thresholds":{"sleeping":"1h"}}}`, job, "sleeping is not a state"},
		"threshold as number":     {`{"spec":{"state_thresholds":{"executing":3}}}`, job, "must be a string"},
		"threshold without unit":  {`{"spec":{"state_thresholds":{"executing":"soon"}}}`, job, "executing"},
		"bad node selector":       {`{"spec":{"node_selector":{"a b":"c"}}}`, job, "node_selector"},
		"a spec that is a list":   {`{"spec":[]}`, job, "spec must be an object"},
		"a wrong function":        {`{}`, `{"kind":"job","spec":{"command":1}}`, "spec.command"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := submit.Enrich(input(t, c.task, c.fn, ""))
			if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
		})
	}
}

func TestEnrichAllowsLocalKindsWhereTheyRun(t *testing.T) {
	t.Parallel()
	in := input(t, `{}`, `{"kind":"local","metadata":{"name":"f","project":"demo"}}`, "")
	in.AllowLocal = true
	if _, run, err := submit.Enrich(in); err != nil || document.String(run, "metadata", "name") != "f" {
		t.Errorf("%v %v", run, err)
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	stored := decode(t, `{"kind":"job","spec":{"image":"a","command":"c","env":[{"name":"A","value":"1"},{"name":"B","value":"2"}],
		"volumes":[{"name":"v"}],"resources":{"limits":{"cpu":"1"}},"replicas":1}}`)
	inline := decode(t, `{"kind":"dask","metadata":{"credentials":{"access_key":"k"}},"spec":{"image":"b","command":"other","replicas":2,
		"env":[{"name":"B","valueFrom":{}},{"name":"C","value":"3"}],"volumes":[],"resources":{"limits":{}},"tolerations":[]}}`)
	got, err := submit.Overlay(stored, inline)
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, `{"kind":"job","metadata":{"credentials":{"access_key":"k"}},"spec":{"image":"b","command":"c","replicas":2,
		"env":[{"name":"A","value":"1"},{"name":"B","valueFrom":{}},{"name":"C","value":"3"}],"volumes":[{"name":"v"}],"resources":{"limits":{"cpu":"1"}}}}`)
	if g, w := string(document.Encode(got)), string(document.Encode(want)); g != w {
		t.Errorf("got %s\nwant %s", g, w)
	}
	for _, bad := range []string{`{"spec":{"env":[1]}}`, `{"spec":{"env":"a"}}`, `{"spec":3}`, `{"spec":{"resources":[1]}}`} {
		if _, err := submit.Overlay(stored, decode(t, bad)); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEnrichTakesThePackagersOfTheProject(t *testing.T) {
	t.Parallel()
	project := `{"spec":{"custom_packagers":[["shapes.PointPackager",true]]}}`
	for task, want := range map[string]string{
		`{"metadata":{},"spec":{}}`:                                         `[["shapes.PointPackager",true]]`,
		`{"metadata":{},"spec":{"custom_packagers":[["other.One",false]]}}`: `[["other.One",false]]`,
	} {
		_, run, err := submit.Enrich(input(t, task, job, project))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(document.Encode(document.Get(run, "spec", "custom_packagers"))); got != want {
			t.Errorf("%s: got %s, want %s", task, got, want)
		}
	}
	for _, wrong := range []string{`["shapes.PointPackager"]`, `[["a.B",true,1]]`, `[["a.B","yes"]]`, `{"a":1}`} {
		_, _, err := submit.Enrich(input(t, `{"metadata":{},"spec":{"custom_packagers":`+wrong+`}}`, job, ""))
		if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "task: ") || !strings.Contains(err.Error(), "custom_packagers") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
}
