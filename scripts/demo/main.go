// Command demo builds millrace and shows it at work on real data: a Python file
// and a notebook become functions, train models on the breast cancer data set,
// and log metrics, plots and a model; first through the command line without a
// server, whose model is then deployed and asked, then through the stock MLRun SDK
// against a server on the same data.
//
// It needs Go, Python 3 and a Python package index; whatever it makes is below
// .millrace/ in the repository and in the user's cache folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/env"
)

const project = "breast-cancer"

func main() {
	data := flag.String("data", ".millrace/demo", "data `folder` of the demonstration")
	withoutSDK := flag.Bool("without-sdk", false, "leave out the part with the MLRun SDK, which takes a minute to install")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *data, !*withoutSDK); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type demo struct {
	ctx     context.Context // of the whole command
	root    string          // of the repository
	example string
	binary  string
	data    string
}

func run(ctx context.Context, data string, withSDK bool) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	example := filepath.Join(root, "examples", "breast_cancer")
	if _, err := os.Stat(example); err != nil {
		return errors.New("start it in the top folder of the repository: go run ./scripts/demo")
	}
	if data, err = filepath.Abs(data); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	d := &demo{ctx: ctx, root: root, example: example, binary: filepath.Join(root, "bin", "millrace"), data: data}

	title("Build")
	if err := d.command(nil, "go", "build", "-o", d.binary, "./cmd/millrace").Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	if err := d.pip(); err != nil {
		return err
	}
	if err := d.commandLine(); err != nil {
		return err
	}
	if err := d.realTime(); err != nil {
		return err
	}
	if withSDK {
		if err := d.sdk(); err != nil {
			return err
		}
	}
	d.whereToLook()
	return nil
}

// commandLine runs the file and the notebook without a server.
func (d *demo) commandLine() error {
	requirements := []string{"--requirements-file", filepath.Join(d.example, "requirements.txt")}
	if d.command(nil, d.binary, "project", "get", project, "--output", "name").Run() != nil {
		if err := d.millrace(nil, "project", "create", project); err != nil {
			return err
		}
	}
	title("A Python file becomes a function and trains a model")
	args := append([]string{"run", filepath.Join(d.example, "train.py"), "--handler", "train", "--project", project, "--param", "trees=100"}, requirements...)
	if err := d.millrace(nil, args...); err != nil {
		return err
	}
	title("A notebook becomes a function and explores the data")
	args = append([]string{"run", filepath.Join(d.example, "explore.ipynb"), "--handler", "explore", "--project", project, "--param", "folds=5"}, requirements...)
	if err := d.millrace(nil, args...); err != nil {
		return err
	}
	return d.list(nil)
}

// realTime lets the model of the command line's run answer requests.
func (d *demo) realTime() (err error) {
	title("The model answers requests")
	url, stop, err := d.server()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	vars := []string{"MILLRACE_URL=" + url}
	err = d.millrace(vars, "deploy", filepath.Join(d.example, "score.py"), "--handler", "score", "--project", project, "--env", "MODEL=store://models/"+project+"/train-train_model",
		"--requirements-file", filepath.Join(d.example, "requirements.txt"))
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"invoke", "score", "--project", project, "--data", "@" + filepath.Join(d.example, "patients.json")},
		{"top", "--once", "--project", project},
		{"delete", "deployment", "score", "--project", project}, // it would serve on without the server
	} {
		if err := d.millrace(vars, args...); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

// pip makes sure that Python can install packages: Debian's python3 comes without
// pip, and its package python3-venv brings one.
func (d *demo) pip() error {
	for _, module := range []string{"pip", "ensurepip"} {
		if exec.CommandContext(d.ctx, "python3", "-c", "import "+module).Run() == nil {
			return nil
		}
	}
	install, err := exec.LookPath("apt-get")
	if err != nil {
		return nil // what is missing will be said by the run that misses it
	}
	title("Python has no pip here: installing Debian's package python3-venv")
	for _, argv := range [][]string{{install, "update", "-qq"}, {install, "install", "-y", "-qq", "--no-install-recommends", "python3-venv"}} {
		if os.Geteuid() != 0 {
			argv = append([]string{"sudo"}, argv...)
		}
		if err := d.command([]string{"DEBIAN_FRONTEND=noninteractive"}, argv[0], argv[1:]...).Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
	}
	return nil
}

// sdk lets the stock SDK do the same against a server on the same data folder.
func (d *demo) sdk() error {
	title("The stock MLRun SDK does the same against a server")
	bin, err := d.installSDK()
	if err != nil {
		return err
	}
	if bin == "" {
		fmt.Println("Left out: the mlrun package installs on Python 3.9, 3.10 and 3.11 only, and none of these is here.")
		return nil
	}
	url, stop, err := d.server()
	if err != nil {
		return err
	}
	// The SDK imports GitPython, which otherwise insists on a git command.
	client := d.command([]string{"PYTHONWARNINGS=ignore", "GIT_PYTHON_REFRESH=quiet"}, bin, filepath.Join(d.example, "with_mlrun.py"), url, project)
	if err := errors.Join(client.Run(), d.list([]string{"MILLRACE_URL=" + url})); err != nil {
		return errors.Join(err, stop())
	}
	return stop()
}

// installSDK returns the Python of an environment with the newest release of the
// SDK that an interpreter here can have, "" when none can. The environment is made
// as those of functions are, and kept in the user's cache folder.
func (d *demo) installSDK() (python string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "millrace-demo")
	environments, err := env.New(env.Config{Dir: filepath.Join(cache, "envs"), CacheDir: filepath.Join(cache, "cache")})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, environments.Close()) }()
	interpreters := env.NewInterpreters(env.InterpreterConfig{})
	for _, choice := range []struct{ python, release string }{{"3.11", "1.12.1"}, {"3.10", "1.7.2"}, {"3.9", "1.7.2"}} {
		interpreter, err := interpreters.Select(d.ctx, choice.python)
		if err != nil {
			continue // that version is not here
		}
		fmt.Printf("installing mlrun %s for Python %s (a minute or three, the first time)\n", choice.release, interpreter.Version)
		requirements, err := env.ParseRequirements([]string{"mlrun==" + choice.release}, d.root)
		if err != nil {
			return "", err
		}
		made, err := environments.Ensure(d.ctx, env.Request{Interpreter: interpreter, Requirements: requirements}, func(env.Progress) {})
		if err != nil {
			return "", err
		}
		return made.Python, nil
	}
	return "", nil
}

// server starts a server on a free port and waits until it is ready.
func (d *demo) server() (url string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(d.data, "server.log"))
	if err != nil {
		return "", nil, err
	}
	cmd := d.command(nil, d.binary, "server", "--listen", address, "--data-dir", d.data)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", nil, errors.Join(err, log.Close())
	}
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return errors.Join(cmd.Wait(), log.Close())
	}
	url = "http://" + address
	for deadline := time.Now().Add(30 * time.Second); ; {
		if resp, err := http.Get(url + "/api/v1/healthz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return url, stop, nil
			}
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(fmt.Errorf("the server is not ready after 30 s; see %s", log.Name()), stop())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (d *demo) list(vars []string) error {
	title("What there is now")
	for _, what := range []string{"functions", "runs", "artifacts"} {
		if err := d.millrace(vars, "get", what, "--project", project); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

func (d *demo) whereToLook() {
	title("Where to look")
	fmt.Printf(`plots, rankings, models    %[1]s
all of it again            %[2]s get runs --project %[3]s      (and: functions, artifacts)
one run's log              %[2]s logs RUN --project %[3]s
what a function takes      %[2]s doc %[4]s
a server on this data      %[2]s server --data-dir %[5]s
                           MLRun users: mlrun.set_environment("http://127.0.0.1:8080")

The commands find the demonstration's data with: export MILLRACE_DATA_DIR=%[5]s
`, filepath.Join(d.data, "artifacts", project), d.short(d.binary), project, d.short(filepath.Join(d.example, "train.py")), d.short(d.data))
}

// short is path as seen from the repository.
func (d *demo) short(path string) string {
	if relative, err := filepath.Rel(d.root, path); err == nil && !strings.HasPrefix(relative, "..") {
		return relative
	}
	return path
}

func (d *demo) millrace(vars []string, args ...string) error {
	fmt.Printf("$ millrace %s\n", strings.Join(args, " "))
	if err := d.command(vars, d.binary, args...).Run(); err != nil {
		return fmt.Errorf("millrace %s: %w", args[0], err)
	}
	return nil
}

// command is a command in the repository's folder, on the demonstration's data.
func (d *demo) command(vars []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.ctx, name, args...)
	cmd.Dir = d.root
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(append(os.Environ(), "MILLRACE_DATA_DIR="+d.data, "MILLRACE_URL="), vars...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

func title(text string) { fmt.Printf("\n== %s ==\n", text) }
