// Package rerun records runs of many sorts, changes what a user might change, and
// looks whether the repetition of each is judged rightly.
package rerun

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const code = `
import os, random, threading, time, uuid
import datetime

def square(x=3): return x * x
def table(): return {"a": [1, 2.5, None], "b": float("nan")}
def fails(): raise ValueError("always the same")
def nothing(): pass
def draw(): return random.random()
def shuffled():
    items = list(range(50))
    random.shuffle(items)
    return items
def own_seed():
    random.seed(7)
    return random.random()
def own_generator(): return random.Random(7).random()
def unseeded_generator(): return random.Random().random()
def by_parameter(seed):
    random.seed(seed)
    return random.random()
def entropy(): return os.urandom(8).hex()
def token():
    import secrets
    return secrets.token_hex(8)
def identifier(): return str(uuid.uuid4())
def clock(): return time.time()
def now(): return datetime.datetime.now().isoformat()
def from_now():
    from datetime import datetime
    return datetime.now().isoformat()
def formatted(): return time.strftime("%H:%M:%S", time.gmtime()) + str(time.perf_counter_ns())
def measured():
    began = time.time()
    return "the time has no part in this" if time.time() >= began else "?"
def temporary():
    import tempfile
    with tempfile.NamedTemporaryFile() as file:
        return len(file.name) > 0
def hashed(): return hash("a text")
def ordered(): return list({"one", "two", "three", "four", "five", "six", "seven"})
def address(): return str(object()) + str(os.getpid())
def racing():
    out = []
    pid = os.getpid()
    def work(i):
        for _ in range((i * pid) % 7 + 1):
            time.sleep(0.002)
        out.append("%d/%d" % (i, pid))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return out
def drawn(n):
    import random
    return random.random()

def forked():
    import multiprocessing, random
    found = []
    for n in range(3):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found.append(pool.apply(drawn, (n,)))
    return found

def started():
    import subprocess, sys
    return subprocess.check_output([sys.executable, "-c", "import random; print(random.random())"]).decode()

def unseeded_class():
    import random
    return random.Random().random()

def joined():
    out = {}
    threads = [threading.Thread(target=out.__setitem__, args=(i, i * i)) for i in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return [out[i] for i in range(6)]
def file_only(context): context.log_artifact("text", body="always", local_path="text.txt")
def random_file(context): context.log_artifact("text", body=str(random.random()), local_path="text.txt")
def both(context):
    context.log_result("n", 1)
    context.log_artifact("text", body="always", local_path="text.txt")
def size(data): return len(data.get())
def ignores(data): return 1
def sleeps(): time.sleep(60)
def variable(): return os.environ.get("PROV_FOO", "")
def helper():
    import prov_helper
    return prov_helper.V
def secret(context): return context.get_secret("K")
def named(context, text): context.log_artifact("text", body=text, format="txt")
def dies(): os._exit(3)
def fails_at(): raise ValueError(str(time.time()))
def side(): return open(os.path.expanduser("~/side.txt")).read()
def own_uid(context): return context.uid
def installed():
    import prov_probe
    return prov_probe.VALUE
def version():
    import sys
    return list(sys.version_info[:3])
`

const notebook = `{"cells": [{"cell_type": "code", "metadata": {}, "source": ["def h(): return 4\n"], "outputs": [], "execution_count": null}],
"metadata": {}, "nbformat": 4, "nbformat_minor": 5}`

// story is one run, what changes after it, and the verdict on its repetition.
type story struct {
	name   string
	run    []string // arguments after the file; the file is code.py unless file says otherwise
	file   string
	before func(*testing.T, *machine)
	change func(*testing.T, *machine)
	rerun  []string
	equal  bool
	cause  string
	says   string // part of the sentence
}

func handler(name string, more ...string) []string {
	return append([]string{"--handler", name}, more...)
}

var stories = []story{
	{name: "deterministic", run: handler("square", "-p", "x=5"), equal: true},
	{name: "structures and NaN", run: handler("table"), equal: true},
	{name: "no outputs", run: handler("nothing"), equal: true},
	{name: "the same failure", run: handler("fails"), equal: true, says: "both failed"},
	{name: "random", run: handler("draw"), cause: "random", says: "no seed was recorded"},
	{name: "random, seeded", run: handler("draw", "--seed", "5"), equal: true},
	{name: "shuffle", run: handler("shuffled"), cause: "random"},
	{name: "shuffle, seeded", run: handler("shuffled", "--seed", "0"), equal: true},
	{name: "seeds itself", run: handler("own_seed"), equal: true},
	{name: "generator with a seed", run: handler("own_generator"), equal: true},
	{name: "generator without a seed", run: handler("unseeded_generator"), cause: "random"},
	{name: "seed as a parameter", run: handler("by_parameter", "-p", "seed=11"), equal: true},
	{name: "entropy of the system", run: handler("entropy"), cause: "random", says: "os.urandom"},
	{name: "entropy in spite of a seed", run: handler("entropy", "--seed", "5"), cause: "random", says: "no seed determines"},
	{name: "secrets", run: handler("token"), cause: "random"},
	{name: "uuid", run: handler("identifier"), cause: "random", says: "uuid"},
	{name: "time", run: handler("clock"), cause: "time"},
	{name: "datetime", run: handler("now"), cause: "time"},
	{name: "datetime imported in the handler", run: handler("from_now"), cause: "time"},
	{name: "formatted time", run: handler("formatted"), cause: "time"},
	{name: "time read in vain", run: handler("measured"), equal: true},
	{name: "temporary files", run: handler("temporary"), equal: true},
	{name: "hash of a string", run: handler("hashed"), equal: true},
	{name: "order of a set", run: handler("ordered"), equal: true},
	{name: "order of a set, seeded", run: handler("ordered", "--seed", "3"), equal: true},
	{name: "addresses and process ids", run: handler("address"), cause: "nondeterministic"},
	{name: "threads that race", run: handler("racing"), cause: "nondeterministic", says: "threads"},
	{name: "threads that do not", run: handler("joined"), equal: true},
	{name: "forked processes, seeded", run: handler("forked", "--seed", "5"), equal: true},
	{name: "forked processes", run: handler("forked"), cause: "nondeterministic"},
	{name: "a Python process of its own", run: handler("started", "--seed", "5"), cause: "nondeterministic", says: "Python processes"},
	{name: "unseeded generator class", run: handler("unseeded_class"), cause: "random", says: "os.urandom"},
	{name: "artifact only", run: handler("file_only"), equal: true, says: "0 results, 1 artifact"},
	{name: "random artifact", run: handler("random_file"), cause: "random", says: "artifact text"},
	{name: "result and artifact", run: handler("both"), equal: true, says: "1 result, 1 artifact"},
	{name: "input", run: handler("size", "--input", "data=in.csv"), equal: true},
	{
		name: "input changed", run: handler("size", "--input", "data=in.csv"), cause: "input", says: "content of the input data",
		change: func(t *testing.T, m *machine) { m.write(t, "in.csv", "more than before") },
	},
	{
		name: "input moved", run: handler("size", "--input", "data=in.csv"), cause: "input", says: "not at",
		change: func(t *testing.T, m *machine) { m.move(t, "in.csv", "elsewhere.csv") },
	},
	{
		name: "input changed, outputs equal", run: handler("square", "--input", "data=in.csv"), equal: true, says: "although the content",
		change: func(t *testing.T, m *machine) { m.write(t, "in.csv", "other content") },
	},
	{
		name: "code changed", file: "function.yaml", run: handler("answer"), cause: "code",
		change: func(t *testing.T, m *machine) { m.write(t, "beside.py", "def answer(): return 2\n") },
	},
	{
		name: "file overwritten, version kept", run: handler("square"), equal: true,
		change: func(t *testing.T, m *machine) { m.write(t, "code.py", "def square(): return 'another'\n") },
	},
	{
		name: "parameters changed", run: handler("square", "-p", "x=5"), cause: "parameters", says: "parameters x",
		rerun: []string{"-p", "x=6", "--allow-changes"},
	},
	{
		name: "package of the interpreter changed", run: handler("installed"), cause: "environment", says: "installed for the interpreter",
		before: func(t *testing.T, m *machine) { m.install(t, "1") },
		change: func(t *testing.T, m *machine) { m.install(t, "2") },
	},
	{
		name: "lock rebuilt", run: handler("installed", "--requirement", "WHEEL"), equal: true,
		before: func(t *testing.T, m *machine) { m.wheel(t, "1.0") },
		change: func(t *testing.T, m *machine) { m.removeEnvironments(t) },
	},
	{
		name: "lock not known any more", run: handler("installed", "--requirement", "WHEEL"), cause: "environment", says: "not known on this machine",
		before: func(t *testing.T, m *machine) { m.wheel(t, "1.0") },
		change: func(t *testing.T, m *machine) { m.remove(t, "data/envs") },
	},
	{
		name: "variable of the surroundings", run: handler("variable"), cause: "nondeterministic", says: "an environment variable",
		before: func(_ *testing.T, m *machine) { m.env = []string{"PROV_FOO=1"} },
		change: func(_ *testing.T, m *machine) { m.env = nil },
	},
	{
		name: "hash seed of the surroundings", run: handler("ordered"), equal: true,
		before: func(_ *testing.T, m *machine) { m.env = []string{"PYTHONHASHSEED=1"} },
		change: func(_ *testing.T, m *machine) { m.env = []string{"PYTHONHASHSEED=2"} },
	},
	{
		name: "module by PYTHONPATH", run: handler("helper"), cause: "nondeterministic", says: "code that comes from PYTHONPATH",
		before: func(t *testing.T, m *machine) {
			m.write(t, "lib/prov_helper.py", "V = 1\n")
			m.env = []string{"PYTHONPATH=" + m.path("lib")}
		},
		change: func(t *testing.T, m *machine) { m.write(t, "lib/prov_helper.py", "V = 2\n") },
	},
	{
		name: "editable package", run: handler("helper"), cause: "nondeterministic", says: "installed as it is there",
		before: func(t *testing.T, m *machine) {
			m.write(t, "lib/prov_helper.py", "V = 1\n")
			m.write(t, "home/.local/lib/"+short(t)+"/site-packages/__editable__.prov-1.pth", m.path("lib")+"\n")
		},
		change: func(t *testing.T, m *machine) { m.write(t, "lib/prov_helper.py", "V = 2\n") },
	},
	{
		name: "secret changed", run: handler("secret", "--secret", "K"), cause: "nondeterministic", says: "the secret K",
		before: func(t *testing.T, m *machine) { m.secret(t, "one") },
		change: func(t *testing.T, m *machine) { m.secret(t, "two") },
	},
	{
		name: "iterations drawn", run: handler("square", "-x", "x=1..1000", "--strategy", "random", "--max-iterations", "4"), cause: "random", says: "drawn at random",
	},
	{
		name: "iterations drawn with a seed", run: handler("square", "-x", "x=1..1000", "--strategy", "random", "--max-iterations", "4", "--seed", "3"), equal: true,
	},
	{name: "iterations of a grid", run: handler("square", "-x", "x=1,2,3", "--selector", "max.return"), equal: true},
	{
		name: "artifact whose tag moved", run: handler("size", "--input", "data=store://artifacts/default/tagged_text"), cause: "input", says: "store://artifacts/default/tagged_text",
		before: func(t *testing.T, m *machine) {
			m.millrace(t, "run", "code.py", "--handler", "named", "--name", "tagged", "-p", "text=one")
		},
		change: func(t *testing.T, m *machine) {
			m.millrace(t, "run", "code.py", "--handler", "named", "--name", "tagged", "-p", "text=other")
		},
	},
	{name: "notebook", file: "code.ipynb", run: handler("h"), equal: true, says: "1 result"},
	{
		name: "folder, edited since", file: "folder", run: handler("main.h"), equal: true, says: "1 result",
		change: func(t *testing.T, m *machine) { m.write(t, "folder/main.py", "def h(): return 2\n") },
	},
	{name: "script that fails", file: "fails.sh", equal: true, says: "both failed"},
	{name: "process that ends", run: handler("dies"), equal: true, says: "both failed"},
	{name: "error with the time", run: handler("fails_at"), cause: "time", says: "error"},
	{
		name: "outputs deleted", run: handler("both"), equal: true,
		change: func(t *testing.T, m *machine) { m.remove(t, "data/artifacts") },
	},
	{
		name: "result of the cache", run: handler("draw", "--cache"), cause: "random", says: "(random)",
		before: func(t *testing.T, m *machine) { m.millrace(t, "run", "code.py", "--handler", "draw", "--cache") },
	},
	{name: "file that is no input", run: handler("side"), cause: "nondeterministic", says: "a file that is no input",
		before: func(t *testing.T, m *machine) { m.write(t, "home/side.txt", "1") },
		change: func(t *testing.T, m *machine) { m.write(t, "home/side.txt", "2") },
	},
	{name: "uid of the run", run: handler("own_uid"), cause: "nondeterministic"},
	{
		name: "interpreter gone", run: handler("version"), cause: "interpreter", says: "was 3.12",
		before: func(t *testing.T, m *machine) { m.interpreter(t, "3.12") },
		change: func(t *testing.T, m *machine) { m.env = nil },
	},
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t)
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := &machine{binary: binary, dir: t.TempDir()}
			m.write(t, "code.py", code)
			m.write(t, "in.csv", "a,b\n1,2\n")
			m.write(t, "fails.sh", "exit 3\n")
			m.write(t, "folder/main.py", "def h(): return 1\n")
			m.write(t, "code.ipynb", notebook)
			m.write(t, "beside.py", "def answer(): return 1\n")
			m.write(t, "function.yaml", "kind: job\nmetadata: {name: beside}\nspec: {command: "+m.path("beside.py")+"}\n")
			if s.before != nil {
				s.before(t, m)
			}
			file := s.file
			if file == "" {
				file = "code.py"
			}
			args := append([]string{"run", file, "-o", "name", "--quiet"}, s.run...)
			for i, arg := range args {
				if arg == "WHEEL" {
					args[i] = "prov_probe==1.0"
				}
			}
			uid, _, _ := m.millrace(t, args...)
			uid = strings.TrimSpace(uid)
			if len(uid) != 32 {
				t.Fatalf("the run gave no uid: %q", uid)
			}
			if s.change != nil {
				s.change(t, m)
			}
			out, log, status := m.millrace(t, append([]string{"rerun", uid, "-o", "json"}, s.rerun...)...)
			verdict, err := document.DecodeObject([]byte(out))
			if err != nil {
				t.Fatalf("no verdict: %v\n%s%s", err, out, log)
			}
			equal, cause, sentence := document.Bool(verdict, "equal"), document.String(verdict, "cause"), document.String(verdict, "sentence")
			if equal != s.equal || cause != s.cause || !strings.Contains(sentence, s.says) {
				t.Errorf("equal %t, cause %q: %s\nwant equal %t, cause %q, and %q in it", equal, cause, sentence, s.equal, s.cause, s.says)
			}
			if want := map[bool]int{true: 0, false: 1}[s.equal]; status != want {
				t.Errorf("exit status %d, want %d", status, want)
			}
			if of := document.String(verdict, "original"); of != uid {
				t.Errorf("the verdict is about %s, want %s", of, uid)
			}
		})
	}
}

// machine is a folder with a data directory, a home and files of its own.
type machine struct {
	binary, dir string
	env         []string
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// millrace runs the program; a status other than 0 is no failure of the test.
func (m *machine) millrace(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := m.command(t, args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := os.MkdirAll(m.path("home"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// environ is the environment of commands: a repetition must not find interpreters
// that the test did not give it.
func (m *machine) environ() []string {
	return append(append(os.Environ(), "HOME="+m.path("home"), "MILLRACE_DATA_DIR="+m.path("data"), "PYENV_ROOT="+m.path("no-pyenv"),
		"PIP_NO_INDEX=1", "PIP_FIND_LINKS="+m.dir), m.env...)
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(m.path(from), m.path(to)); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(m.path(name)); err != nil {
		t.Fatal(err)
	}
}

// removeEnvironments removes what is built and keeps what says how.
func (m *machine) removeEnvironments(t *testing.T) {
	t.Helper()
	m.move(t, "data/envs/locked", "locked")
	m.remove(t, "data/envs")
	if err := os.MkdirAll(m.path("data/envs"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.move(t, "locked", "data/envs/locked")
}

// install puts a package into the user's folder of the default interpreter.
func (m *machine) install(t *testing.T, version string) {
	t.Helper()
	folder := "home/.local/lib/" + short(t) + "/site-packages/"
	m.remove(t, folder)
	m.write(t, folder+"prov_probe.py", "VALUE = '"+version+"'\n")
	m.write(t, folder+"prov_probe-"+version+".dist-info/METADATA", "Metadata-Version: 2.1\nName: prov_probe\nVersion: "+version+"\n")
}

// secret stores the secret K.
func (m *machine) secret(t *testing.T, value string) {
	t.Helper()
	m.write(t, "value", value)
	if _, log, status := m.millrace(t, "secret", "set", "K", "--from-file", "value"); status != 0 {
		t.Fatal(log)
	}
}

// short is how folders are named after the default interpreter: "python3.11".
func short(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// wheel makes a package that pip installs without any other.
func (m *machine) wheel(t *testing.T, version string) {
	t.Helper()
	file, err := os.Create(m.path("prov_probe-" + version + "-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	info := "prov_probe-" + version + ".dist-info/"
	for _, entry := range [][2]string{
		{"prov_probe.py", "VALUE = '" + version + "'\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: prov_probe\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", "prov_probe.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		w, err := archive.Create(entry[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(entry[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// interpreter makes another version the default until env is reset.
func (m *machine) interpreter(t *testing.T, version string) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(os.Getenv("HOME"), ".pyenv", "versions", version+".*", "bin", "python3"))
	if len(found) == 0 {
		if os.Getenv("MILLRACE_TEST_REQUIRE") != "" {
			t.Fatalf("there is no Python %s", version)
		}
		t.Skipf("there is no Python %s", version)
	}
	m.env = []string{"PATH=" + filepath.Dir(found[0]) + string(os.PathListSeparator) + os.Getenv("PATH")}
}
