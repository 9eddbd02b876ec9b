// Command millrace is the whole product in one binary: server, command line and
// runner. Here flags, environment, signals and exit status become values; the
// rest is internal/cli and internal/app.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"

	"github.com/millrace/millrace/internal/app"
	"github.com/millrace/millrace/internal/cli"
)

// version is set by release builds with -ldflags "-X main.version=…".
var version string

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) > 1 && os.Args[1] != "server" {
		debug.SetGCPercent(400) // a command ends before collecting its garbage is worth it
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup wants it ignored
		signal.Notify(signals, syscall.SIGHUP)
	}
	log.SetOutput(io.Discard) // of libraries: what net/http thinks of a web server that breaks the rules is an error anyway
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	home, _ := os.UserHomeDir() // "" when there is none
	process := cli.Process{
		Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Dir: dir, HomeDir: home, Signals: signals, Terminal: terminal, Version: buildVersion,
	}
	return cli.Main(context.Background(), process, app.System(buildVersion))
}

// terminal reports whether stream is a terminal, and its width.
func terminal(stream io.Writer) (int, bool) {
	file, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0, true
	}
	return width, true
}

// buildVersion is the version of this binary: the release, or what the Go
// toolchain recorded about the source.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "0.0.0-dev"
	}
	return info.Main.Version
}
