package env

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// oldestPip is the first pip whose installation report is stable.
var oldestPip = []int{23, 0}

// runnerFile is pip's entry for being run by an interpreter other than the one
// it is installed for: it makes nothing but pip itself importable.
const runnerFile = "__pip-runner__.py"

// pipScript says what an interpreter has of pip.
const pipScript = `import glob, importlib.util, json, os, re, sysconfig
out = {"runner": "", "version": "", "wheels": []}
spec = importlib.util.find_spec("pip")
if spec is not None and spec.origin:
    with open(spec.origin, encoding="utf-8") as f:
        found = re.search(r"__version__ = [\"']([^\"']+)", f.read())
    out["version"] = found.group(1) if found else ""
    out["runner"] = os.path.join(os.path.dirname(spec.origin), "__pip-runner__.py")
folders = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
spec = importlib.util.find_spec("ensurepip")
if spec is not None:
    folders += [os.path.join(d, "_bundled") for d in spec.submodule_search_locations or []]
for folder in folders:
    if folder:
        out["wheels"] += sorted(glob.glob(os.path.join(folder, "pip-*.whl")))
print(json.dumps(out))`

// pip is a pip that any environment's interpreter can run.
type pip struct {
	runner  string // path of its runnerFile
	version string
	origin  string // for the log
}

// pipFinder finds a usable pip for an interpreter.
type pipFinder struct {
	cacheDir string
	getenv   func(string) string
}

func (f pipFinder) find(ctx context.Context, interp Interpreter, log io.Writer) (pip, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, interp.Executable, "-I", "-c", pipScript)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay, cmd.Dir = &stdout, &stderr, time.Second, "/"
	var has struct {
		Runner  string   `json:"runner"`
		Version string   `json:"version"`
		Wheels  []string `json:"wheels"`
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return pip{}, context.Cause(ctx)
		}
		return pip{}, fault.Precondition("the Python interpreter %s cannot be asked for its pip: %w: %s", interp.Executable, err, lastLine(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), &has); err != nil {
		return pip{}, fmt.Errorf("ask %s for its pip: %w", interp.Executable, err)
	}
	if recentPip(has.Version) {
		if _, err := os.Stat(has.Runner); err == nil {
			return pip{runner: has.Runner, version: has.Version, origin: "the interpreter's own"}, nil
		}
	}
	config := readPipConfig(f.getenv, interp)
	wheels := has.Wheels
	for _, folder := range config.findLinks {
		matches, err := filepath.Glob(filepath.Join(folder, "pip-*.whl"))
		if err == nil {
			wheels = append(wheels, matches...)
		}
	}
	if len(wheels) > 0 {
		newest := slices.MaxFunc(wheels, func(a, b string) int {
			return compareNumbers(numbers(wheelVersion(a)), numbers(wheelVersion(b)))
		})
		if v := wheelVersion(newest); recentPip(v) {
			runner, err := f.unpack(newest)
			if err == nil {
				return pip{runner: runner, version: v, origin: newest}, nil
			}
			fmt.Fprintf(log, "cannot use %s: %v\n", newest, err)
		}
	}
	if runner, version, ok := f.downloaded(interp); ok {
		return pip{runner: runner, version: version, origin: "downloaded before"}, nil
	}
	fmt.Fprintf(log, "%s has no usable pip; getting one from %s\n", interp.Executable, redact(config.index))
	wheel, err := f.download(ctx, config, interp)
	if err != nil {
		return pip{}, err
	}
	defer os.Remove(wheel)
	runner, err := f.unpack(wheel)
	if err != nil {
		return pip{}, fmt.Errorf("unpack pip: %w", err)
	}
	if err := f.keep(interp, runner); err != nil {
		return pip{}, err
	}
	return pip{runner: runner, version: wheelVersion(wheel), origin: "the package index"}, nil
}

func recentPip(version string) bool {
	return version != "" && compareNumbers(numbers(version), oldestPip) >= 0
}

var wheelName = lazyregexp.New(`^pip-(\d+(?:\.\d+)*)-`)

func wheelVersion(path string) string {
	if m := wheelName.FindStringSubmatch(filepath.Base(path)); m != nil {
		return m[1]
	}
	return ""
}

// unpack puts a pip wheel into the cache under its content's digest, once, so
// that its compiled modules are kept too, and returns the runner's path.
func (f pipFinder) unpack(wheel string) (string, error) {
	data, err := os.ReadFile(wheel)
	if err != nil {
		return "", fmt.Errorf("read wheel: %w", err)
	}
	sum := sha256.Sum256(data)
	target := filepath.Join(f.cacheDir, "pip", wheelVersion(wheel)+"-"+hex.EncodeToString(sum[:8]))
	runner := filepath.Join(target, "pip", runnerFile)
	if _, err := os.Stat(runner); err == nil {
		return runner, nil
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return "", fmt.Errorf("open wheel: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(target), ".new-*")
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(tmp, archive); err != nil { // refuses names that leave the folder
		return "", fmt.Errorf("unpack wheel: %w", err)
	}
	if err := os.Rename(tmp, target); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return "", fmt.Errorf("unpack wheel: %w", err)
	}
	if _, err := os.Stat(runner); err != nil {
		return "", fmt.Errorf("the wheel has no pip/%s", runnerFile)
	}
	return runner, nil
}

// A downloaded pip is found again by the interpreter's minor version, since
// which release fits depends on it.
func (f pipFinder) pointer(interp Interpreter) string {
	return filepath.Join(f.cacheDir, "pip", fmt.Sprintf("for-%d.%d", interp.Version.Major, interp.Version.Minor))
}

func (f pipFinder) keep(interp Interpreter, runner string) error {
	return writeFile(f.pointer(interp), []byte(runner))
}

func (f pipFinder) downloaded(interp Interpreter) (runner, version string, ok bool) {
	data, err := os.ReadFile(f.pointer(interp))
	if err != nil {
		return "", "", false
	}
	if _, err := os.Stat(string(data)); err != nil {
		return "", "", false
	}
	version, _, _ = strings.Cut(filepath.Base(filepath.Dir(filepath.Dir(string(data)))), "-")
	return string(data), version, recentPip(version)
}

// notForPip are settings of the environment that would send an installation
// elsewhere, change what is installed, or reach build scripts that have no
// business with them. Everything else of pip's configuration stays in force.
var notForPip = lazyregexp.New(`^(PYTHON[A-Z]+|VIRTUAL_ENV|__PYVENV_LAUNCHER__|MILLRACE_.*|` +
	`PIP_(TARGET|PREFIX|ROOT|USER|REQUIREMENT|EDITABLE|DRY_RUN|REPORT|PYTHON|QUIET|VERBOSE|LOG|NO_DEPS|REQUIRE_HASHES|` +
	`UPGRADE|FORCE_REINSTALL|IGNORE_INSTALLED|REQUIRE_VIRTUALENV|NO_COLOR|PROGRESS_BAR|SRC|PYTHON_VERSION|PLATFORM|ABI|IMPLEMENTATION))=`)

// run runs pip with python until it ends, writing what it prints to log and
// giving each line to each. Files are inherited. When ctx ends, pip and what it
// started are killed; when this process dies, pip dies too (on Linux).
func (p pip) run(ctx context.Context, python string, files []*os.File, log io.Writer, each func(string), args ...string) error {
	cmd := exec.CommandContext(ctx, python, append([]string{"-I", "-u", "-X", "utf8", p.runner}, args...)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), notForPip.MatchString),
		"PIP_USER=0", "PIP_NO_INPUT=1", "PIP_NO_COLOR=1",
		"PIP_PROGRESS_BAR=off", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_WARN_SCRIPT_LOCATION=1", "PIP_ROOT_USER_ACTION=ignore")
	cmd.Dir = os.TempDir()
	cmd.ExtraFiles = files
	return runLines(ctx, cmd, log, each)
}

// runLines starts cmd in its own process group, copies its output to log line
// by line, and waits for it.
func runLines(ctx context.Context, cmd *exec.Cmd, log io.Writer, each func(string)) error {
	// The signal on a parent's death belongs to the thread that started the
	// child: keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	copied := make(chan error, 1)
	go func() { copied <- copyLines(out, log, each) }()
	err = cmd.Wait()
	// What it left running (nothing, normally) would keep the pipe open.
	if derr := out.SetReadDeadline(time.Now().Add(2 * time.Second)); derr != nil {
		out.Close()
	}
	if cerr := <-copied; err == nil && cerr != nil {
		err = cerr
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func copyLines(from io.Reader, log io.Writer, each func(string)) error {
	var failed error
	in := bufio.NewReaderSize(from, 64<<10)
	for {
		chunk, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) { // an endless line counts as several
			err = nil
		}
		if len(chunk) > 0 {
			line := redact(string(chunk))
			if _, werr := io.WriteString(log, line); werr != nil && failed == nil {
				failed = fmt.Errorf("write build log: %w", werr)
			}
			each(strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			return failed // the pipe's end, however it comes
		}
	}
}
