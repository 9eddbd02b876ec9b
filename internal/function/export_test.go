package function_test

import (
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

func TestYAMLScalarsAreThoseOfPyYAML(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"yes": "true", "off": "false", "'yes'": `"yes"`, "y": `"y"`, "~": "null", "": "null", `""`: `""`,
		"1": "1", "1.0": "1.0", "-1": "-1", "+3": "3", "0x1F": "31", "017": "15", "0b11": "3", "1_000": "1000", "08": `"08"`,
		"1:30": "90", "12:30:45": "45045", "1e5": `"1e5"`, "1.0e+5": "1.0e+5", "1.": "1.0", ".5": "0.5", "+1.5": "1.5", "3.10": "3.10",
		"123456789012345678901234567890": "123456789012345678901234567890",
		"2024-10-23":                     `"2024-10-23"`, "2024-10-23 08:15:52+00:00": `"2024-10-23 08:15:52+00:00"`,
		"!!str 5": `"5"`, "!!float 5": "5.0", "!!int '5'": "5", "[1, a]": `[1,"a"]`, "{1: a, true: b}": `{"1":"a","true":"b"}`,
		"=": `"="`, "&a [x]": `["x"]`, "- &a {b: 1}\n- *a\n- {<<: *a, c: 2}\n- {<<: [*a], b: 3}": `[{"b":1},{"b":1},{"b":1,"c":2},{"b":3}]`,
		"!!python/tuple [1]": "[1]", "|\n  a\n  b\n": `"a\nb\n"`, "a: &x 1\nb: *x": `{"a":1,"b":1}`,
	} {
		value, err := function.DecodeYAML([]byte("v: " + strings.ReplaceAll(in, "\n", "\n   ")))
		if strings.HasPrefix(in, "- ") || strings.HasPrefix(in, "|") || strings.HasPrefix(in, "a:") {
			value, err = function.DecodeYAML([]byte(in))
			value = document.Object{"v": value}
		}
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := string(document.Encode(value.(document.Object)["v"])); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	value, err := function.DecodeYAML([]byte("[.inf, -.inf, .nan]"))
	if list, ok := value.([]any); err != nil || !ok || !math.IsInf(list[0].(float64), 1) || !math.IsInf(list[1].(float64), -1) || !math.IsNaN(list[2].(float64)) {
		t.Errorf("infinities: %v %v", value, err)
	}
}

func TestYAMLRefuses(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "*" + p + "]\n"
	}
	for in, say := range map[string]string{
		"":                           "empty",
		"# only a comment":           "empty",
		"a: 1\nb: 2\na: 3":           `line 3: the key "a" stands twice`,
		"a: 1\n--- \nb: 2":           "more than one document",
		"a: [":                       "malformed YAML",
		"a: &a [*a]":                 "contains itself",
		bomb:                         "aliases add more than",
		"a: !!python/object:os.x {}": "tag !!python/object:os.x",
		"a: !!binary eA==":           "tag !!binary",
		"a: !!int x":                 "not a value of the tag !!int",
		"? [a]\n: b":                 "a key must be a string",
		"<<: 3":                      "merge key",
		"a: \x00":                    "zero byte",
		strings.Repeat("[", 300) + strings.Repeat("]", 300): "nested deeper",
		"a:\n\t- b": "malformed YAML",
	} {
		value, err := function.DecodeYAML([]byte(in))
		if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%.40q: %v %v, want %q", in, value, err, say)
		}
	}
}

// nasty has a value of every sort that one YAML reader or another misreads.
func nasty(t testing.TB) document.Object {
	return decode(t, `{"kind":"spark","metadata":{"name":"n","tag":"on","labels":{"yes":"no","1":"2"}},"verbose":false,
	 "spec":{"s":["yes","y","~","null","","1","1.0","1e5","0x1F","017","1_000","1:30","12:30:45","2024-10-23","=","<<","- a","a: b","a #b","#a","*a","&a","!a","%a","@a","'q'","\"d\"","a\\b",
	  "line\nline\n","  lead\nx","trail \nx\n\n","\n","tab\tx","é😀","\u2028","\u0085","\u0007","\ufeff","{a}","[a]","a,b","?","-",".","...","---",".inf","NaN","TRUE","a'b","`+strings.Repeat("long words ", 40)+`"],
	  "n":[0,-1,1.0,1e5,1E-7,1.5e300,123456789012345678901234567890,0.1,-0.0,2.50],"b":[true,false,null],"empty":[{},[]],"nested":[[1,[2]],{"a":[{"b":1}]}],"unknown_key":{"x":null}}}`)
}

func TestYAMLRoundTrip(t *testing.T) {
	t.Parallel()
	doc := nasty(t)
	text, err := function.EncodeYAML(doc)
	if err != nil {
		t.Fatal(err)
	}
	value, err := function.DecodeYAML(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(string(document.Canonical(doc)), string(document.Canonical(value))); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
}

// PyYAML has to read the same from what we write; where it is not installed the
// round trip above stands alone.
func TestPyYAMLReadsOurYAML(t *testing.T) {
	t.Parallel()
	python := ""
	for _, candidate := range []string{"python3", "/usr/bin/python3"} { // .ci/run installs Debian's python3-yaml
		if exec.Command(candidate, "-c", "import yaml").Run() == nil {
			python = candidate
			break
		}
	}
	if python == "" {
		t.Skip("no python3 with PyYAML")
	}
	doc := nasty(t)
	text, err := function.EncodeYAML(doc)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", "import sys, json, yaml; print(json.dumps(yaml.safe_load(sys.stdin.buffer), sort_keys=True))")
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(text)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(document.Canonical(doc)), strings.TrimSpace(string(out))); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
}

func TestStripAndExport(t *testing.T) {
	t.Parallel()
	f, err := function.Import([]byte(`{"kind":"job","metadata":{"name":"scorer","tag":"v1","project":"p","hash":"h","labels":{"a":"b"},"categories":["demo"],"updated":"x","credentials":{"access_key":"$generate"}},
	 "spec":{"command":"","image":"mlrun/mlrun","default_handler":"score","build":{"functionSourceCode":"cGFzcw=="},"env":[{"name":"V3IO_ACCESS_KEY","value":"secret"},{"name":"LEVEL","value":"3"}],
	 "resources":{"limits":{"cpu":1}},"affinity":null,"node_selector":{},"disable_auto_mount":true,"state_thresholds":{"executing":"1h"}},"status":{"state":"ready"},"verbose":false}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: job
metadata:
  name: scorer
  categories:
    - demo
  tag: v1
spec:
  build:
    functionSourceCode: 'cGFzcw=='
  command: ''
  default_handler: score
  disable_auto_mount: false
  env:
    - name: V3IO_ACCESS_KEY
      value: ''
    - name: LEVEL
      value: '3'
  image: mlrun/mlrun
  state_thresholds:
    executing: '1h'
verbose: false
`
	got, err := f.Export(function.YAML, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	back, err := function.Import(got)
	if err != nil || back.Name() != "scorer" {
		t.Errorf("cannot read it back: %v", err)
	}
	for _, format := range []function.Format{function.YAML, function.JSON} {
		whole, err := f.Export(format, false)
		if err != nil {
			t.Fatal(err)
		}
		if back, err = function.Import(whole); err != nil || function.Hash(back.Doc) != function.Hash(f.Doc) {
			t.Errorf("%s: the function changed on the way: %v", format, err)
		}
	}
	if _, err := f.Export("toml", false); !fault.Is(err, fault.CodeInvalid) {
		t.Errorf("toml: %v", err)
	}
	f.SetKind(function.KindHandler)
	if _, err := f.Export(function.YAML, true); !fault.Is(err, fault.CodeInvalid) {
		t.Errorf("handler: %v", err)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	// A published function of an older client: hash, empty project, code in base_spec.
	f, err := function.Import([]byte("metadata: {name: old, hash: abc, project: ''}\nkind: nuclio\nspec:\n  base_spec: {spec: {build: {functionSourceCode: cGFzcw==}}}\n  entry_points: {h: {name: h, parameters: [{name: x, default: ''}]}}\n  env: []\n  min_replicas: 1\nverbose: false\n"))
	if err != nil {
		t.Fatal(err)
	}
	if spec, err := f.Spec(); err != nil || string(spec.Code) != "pass" {
		t.Errorf("code of an older client: %q %v", spec.Code, err)
	}
	if f, err = function.Import([]byte("metadata: {name: a}")); err != nil || f.Kind() != function.KindJob {
		t.Errorf("no kind: %v", err)
	}
	for in, say := range map[string]string{
		"":                    "empty",
		"  \n":                "empty",
		"just text":           "must be an object",
		"a: 1":                "neither metadata nor spec",
		"kind: Job\nspec: {}": `kind "Job" is not known`,
		"kind: Function\napiVersion: nuclio.io/v1\nspec: {}": "Nuclio",
		`{"spec": {}, "spec": {}}`:                           "twice",
		`{"spec": {"args": 3}}`:                              "spec.args must be a list",
		"spec: []":                                           "spec must be an object",
		"metadata: {name: [a]}":                              "metadata.name must be a string",
		"metadata: {name: 'a/b'}":                            "metadata.name",
		"metadata: {labels: {a: [b]}}":                       "metadata.labels.a must be a string",
		"spec: {command: {}}":                                "spec.command must be a string, got an object",
		"spec: {build: {requirements: a}}":                   "spec.build.requirements must be a list of strings",
		"spec: {build: 3}":                                   "spec.build must be an object, got a number",
		"spec: {build: {functionSourceCode: '*'}}":           "spec.build.functionSourceCode is not base64",
		"spec: {env: {A: b}}":                                "spec.env must be a list",
		"spec: {env: [{name: A, value: yes}]}":               "put it in quotes",
		"spec: {env: [{value: a}]}":                          "spec.env[0] needs a name",
		"spec: {resources: {limits: 4}}":                     "spec.resources.limits must be an object",
		"spec: {retry: {count: -1}}":                         "spec.retry.count must be a whole number",
		"verbose: 3\nspec: {}":                               "verbose must be true or false",
		"status: x\nspec: {}":                                "status must be an object",
	} {
		if _, err := function.Import([]byte(in)); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %q", in, err, say)
		}
	}
}
