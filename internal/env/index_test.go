package env

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// packageIndex is a package index on this machine: what pip asks, it answers.
type packageIndex struct {
	*httptest.Server
	mu        sync.Mutex
	files     map[string][]byte // by file name
	pulled    map[string]int    // whole downloads, by file name
	requires  map[string]string
	json      bool
	wrongHash bool
	block     chan struct{} // downloads wait until it is closed
	blocked   chan string   // gets the name of each download that waits
}

func newPackageIndex(t *testing.T) *packageIndex {
	t.Helper()
	x := &packageIndex{files: map[string][]byte{}, pulled: map[string]int{}, requires: map[string]string{}}
	x.Server = httptest.NewServer(http.HandlerFunc(x.serve))
	t.Cleanup(x.Close)
	return x
}

func (x *packageIndex) serve(w http.ResponseWriter, r *http.Request) {
	kind, rest, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	switch kind {
	case "simple":
		x.page(w, rest)
	case "files":
		x.mu.Lock()
		data, ok := x.files[rest]
		block, blocked := x.block, x.blocked
		if r.Method == http.MethodGet {
			x.pulled[rest]++
		}
		x.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		if block != nil && r.Method == http.MethodGet {
			select {
			case blocked <- rest:
			default:
			}
			select {
			case <-block:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = w.Write(data)
	default:
		http.NotFound(w, r)
	}
}

func (x *packageIndex) page(w http.ResponseWriter, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	type file struct {
		Filename string            `json:"filename"`
		URL      string            `json:"url"`
		Hashes   map[string]string `json:"hashes"`
		Requires string            `json:"requires-python,omitempty"`
	}
	var files []file
	for f, data := range x.files {
		if !strings.HasPrefix(f, strings.ReplaceAll(name, "-", "_")+"-") {
			continue
		}
		sum := sha256.Sum256(data)
		if x.wrongHash {
			sum[0]++
		}
		files = append(files, file{f, "../../files/" + f, map[string]string{"sha256": hex.EncodeToString(sum[:])}, x.requires[f]})
	}
	if len(files) == 0 {
		http.Error(w, "no such package", http.StatusNotFound)
		return
	}
	if x.json {
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		_ = json.NewEncoder(w).Encode(map[string]any{"meta": map[string]string{"api-version": "1.0"}, "name": name, "files": files})
		return
	}
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprint(w, "<!DOCTYPE html><html><body>")
	for _, f := range files {
		requires := strings.ReplaceAll(f.Requires, "<", "&lt;")
		fmt.Fprintf(w, "<a href=%q data-requires-python=%q>%s</a><br/>", f.URL+"#sha256="+f.Hashes["sha256"], requires, f.Filename)
	}
	fmt.Fprint(w, "</body></html>")
}

func (x *packageIndex) downloads(file string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.pulled[file]
}

// stall makes downloads wait; the channel gets a name for each that does.
func (x *packageIndex) stall() (waiting <-chan string, release func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	block, blocked := make(chan struct{}), make(chan string, 100)
	x.block, x.blocked = block, blocked
	return blocked, sync.OnceFunc(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		close(block)
		x.block = nil
	})
}

// add puts a wheel into the index that has one module of the package's name.
func (x *packageIndex) add(t *testing.T, name, version string, depends ...string) string {
	t.Helper()
	file := fmt.Sprintf("%s-%s-py3-none-any.whl", name, version)
	info := fmt.Sprintf("%s-%s.dist-info/", name, version)
	metadata := fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version)
	for _, d := range depends {
		metadata += "Requires-Dist: " + d + "\n"
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files[file] = zipFile(t, map[string]string{
		name + ".py":              fmt.Sprintf("version = %q\n\ndef main():\n    print(version)\n", version),
		info + "METADATA":         metadata,
		info + "WHEEL":            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "entry_points.txt": fmt.Sprintf("[console_scripts]\n%s-tool = %s:main\n", name, name),
		info + "RECORD":           "",
	})
	return file
}

func zipFile(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for name, text := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// bundledPip returns a pip wheel that comes with one of the machine's interpreters.
func bundledPip(t *testing.T) (path string, data []byte) {
	t.Helper()
	for _, i := range NewInterpreters(InterpreterConfig{}).List(context.Background()) {
		out, err := exec.Command(i.Executable, "-I", "-c", pipScript).Output()
		if err != nil {
			continue
		}
		var has struct {
			Wheels []string `json:"wheels"`
		}
		if json.Unmarshal(out, &has) != nil {
			continue
		}
		for _, w := range has.Wheels {
			if data, err := os.ReadFile(w); err == nil && recentPip(wheelVersion(w)) {
				return w, data
			}
		}
	}
	skip(t, "no interpreter here brings a pip wheel")
	return "", nil
}

// skip skips, or fails where everything has to be there.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("MILLRACE_TEST_REQUIRE") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// withoutPip returns an interpreter that has neither pip nor ensurepip, as on a
// fresh Debian.
func withoutPip(t *testing.T) Interpreter {
	t.Helper()
	base := realInterpreter(t)
	folder := filepath.Join(t.TempDir(), "bare")
	if out, err := exec.Command(base.Executable, "-I", "-m", "venv", "--without-pip", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	site := filepath.Join(folder, "lib", fmt.Sprintf("python%d.%d", base.Version.Major, base.Version.Minor), "site-packages")
	hide := "import sys, sysconfig; sys.modules['ensurepip'] = None; sysconfig.get_config_vars()['WHEEL_PKG_DIR'] = None\n"
	if err := os.WriteFile(filepath.Join(site, "hide.pth"), []byte(hide), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := NewInterpreters(InterpreterConfig{Default: filepath.Join(folder, "bin", "python3")}).Default(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPipFromIndex(t *testing.T) {
	t.Parallel()
	wheel, data := bundledPip(t)
	interp := withoutPip(t)
	for _, form := range []string{"html", "json"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			x := newPackageIndex(t)
			x.json = form == "json"
			x.files[filepath.Base(wheel)] = data
			x.files["pip-99.0-py3-none-any.whl"] = []byte("needs a newer Python")
			x.requires["pip-99.0-py3-none-any.whl"] = ">=3.99"
			x.files["pip-1.0-py3-none-any.whl"] = []byte("too old")
			values := map[string]string{"PIP_INDEX_URL": x.URL + "/simple"}
			finder := pipFinder{cacheDir: t.TempDir(), getenv: func(name string) string { return values[name] }}
			var log bytes.Buffer
			got, err := finder.find(context.Background(), interp, &log)
			if err != nil {
				t.Fatal(err)
			}
			if got.version != wheelVersion(wheel) || !strings.Contains(log.String(), "no usable pip") {
				t.Errorf("got %+v, log %q", got, log.String())
			}
			var version bytes.Buffer
			if err := got.run(context.Background(), interp.Executable, nil, &version, func(string) {}, "--version"); err != nil {
				t.Fatalf("%v: %s", err, &version)
			}
			if !strings.HasPrefix(version.String(), "pip "+got.version) {
				t.Errorf("it answers %q", &version)
			}
			again, err := finder.find(context.Background(), interp, &log)
			if err != nil || again.runner != got.runner || x.downloads(filepath.Base(wheel)) != 1 {
				t.Errorf("second time: %+v, %v, %d downloads", again, err, x.downloads(filepath.Base(wheel)))
			}
		})
	}
}

func TestPipFromIndexRefuses(t *testing.T) {
	t.Parallel()
	interp := withoutPip(t)
	x := newPackageIndex(t)
	x.files["pip-24.0-py3-none-any.whl"] = []byte("whatever")
	x.wrongHash = true
	config := filepath.Join(t.TempDir(), "pip.conf")
	if err := os.WriteFile(config, []byte("[global]\nindex-url = "+strings.Replace(x.URL, "://", "://user:hunter2@", 1)+"/nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		values map[string]string
		want   string
	}{
		"wrong hash":   {map[string]string{"PIP_INDEX_URL": x.URL + "/simple/"}, "SHA-256"},
		"nothing":      {map[string]string{"PIP_CONFIG_FILE": config}, "404"},
		"no index":     {map[string]string{"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.DevNull}, "no package index"},
		"certificates": {map[string]string{"PIP_CERT": "/nowhere.pem", "PIP_INDEX_URL": x.URL + "/simple/", "PIP_CONFIG_FILE": os.DevNull}, "PIP_CERT"},
		"none named":   {map[string]string{"PIP_CONFIG_FILE": os.DevNull}, "PIP_INDEX_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finder := pipFinder{cacheDir: t.TempDir(), getenv: func(name string) string { return c.values[name] }}
			_, err := finder.find(context.Background(), interp, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestPipFromWheelFolder(t *testing.T) {
	t.Parallel()
	wheel, data := bundledPip(t)
	interp := withoutPip(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, filepath.Base(wheel)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"PIP_FIND_LINKS": folder, "PIP_NO_INDEX": "1"}
	finder := pipFinder{cacheDir: t.TempDir(), getenv: func(name string) string { return values[name] }}
	got, err := finder.find(context.Background(), interp, io.Discard)
	if err != nil || got.version != wheelVersion(wheel) {
		t.Errorf("got %+v, %v", got, err)
	}
}
