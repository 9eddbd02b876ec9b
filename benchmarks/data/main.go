// Command data measures `millrace artifact put` and `get` of a large file beside cp
// on the same disk: the best of several turns, all of them in each turn, the processor
// time of that and the peak memory; without a server, with one on the same data
// directory, and sent through it as from another machine. put returns when the content is on the disk, so
// it stands beside a cp that does, too; get does not wait for the disk, as cp does not.
// The rows of one core are what nobody can be faster than who does that with the
// file in one thread: reading it, copying it, taking a sum of it.
//
//	go run ./benchmarks/data [-size 1024] [-n 3] [-dir DIR]
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // content is named by it
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	size := flag.Int64("size", 1024, "MiB of the file")
	n := flag.Int("n", 3, "turns")
	dir := flag.String("dir", "", "folder on the disk to measure; empty means the temporary folder")
	flag.Parse()
	if err := measure(*size<<20, *n, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "data:", err)
		os.Exit(1)
	}
}

// command is one of the things compared: a process, or work of this one.
type command struct {
	name string
	argv []string
	work func() error
	best time.Duration
	cpu  time.Duration // of the best turn
	peak int64         // KiB
}

func measure(size int64, n int, parent string) error {
	dir, err := os.MkdirTemp(parent, "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, file := filepath.Join(dir, "millrace"), filepath.Join(dir, "file")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, "./cmd/millrace").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	source, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(source, rand.Reader, size); err != nil {
		return err
	}
	if err := source.Close(); err != nil {
		return err
	}
	data, got := filepath.Join(dir, "data"), filepath.Join(dir, "got")
	scratch := filepath.Join(dir, "copy")
	server, url, err := serve(binary, filepath.Join(dir, "served"))
	if err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()
	cp := &command{name: "cp", argv: []string{"cp", "--reflink=never", file, scratch}}
	durable := &command{name: "cp and fsync", argv: []string{"sh", "-c", `cp --reflink=never "$0" "$1" && sync "$1"`, file, scratch}}
	commands := []*command{
		{name: "one core: read", work: func() error { return pass(file, io.Discard) }},
		{name: "one core: read, write", work: func() error { return create(file, scratch) }},
		{name: "one core: read, SHA-1", work: func() error { return pass(file, sha1.New()) }}, //nolint:gosec // content is named by it
		{name: "one core: read, SHA-256", work: func() error { return pass(file, sha256.New()) }},
		cp, durable,
		{name: "artifact put", argv: []string{binary, "artifact", "put", file, "--key", "big", "--data-dir", data}},
		{name: "artifact get", argv: []string{binary, "artifact", "get", "big", got, "--data-dir", data}},
		{name: "put, server beside", argv: []string{binary, "artifact", "put", file, "--key", "big", "--data-dir", filepath.Join(dir, "served")}},
		{name: "get, server beside", argv: []string{binary, "artifact", "get", "big", got, "--data-dir", filepath.Join(dir, "served")}},
		{name: "put over HTTP", argv: []string{binary, "artifact", "put", file, "--key", "big", "--server", url}},
		{name: "get over HTTP", argv: []string{binary, "artifact", "get", "big", got, "--server", url}},
	}
	for turn := range n {
		if err := errors.Join(os.RemoveAll(filepath.Join(data, "artifacts")), os.RemoveAll(filepath.Join(dir, "served", "artifacts"))); err != nil {
			return err
		}
		for _, c := range commands {
			if err := prepare(file, scratch, got); err != nil {
				return err
			}
			if err := c.run(turn == 0); err != nil {
				return err
			}
		}
	}
	if out, err := exec.Command("cmp", file, got).CombinedOutput(); err != nil {
		return fmt.Errorf("the copy differs: %w %s", err, out)
	}
	fmt.Printf("%d MiB, best of %d turns\n", size>>20, n)
	for _, c := range commands {
		fmt.Printf("%-24s %8s  %5.2f x cp  %5.2f x cp and fsync", c.name, c.best.Round(time.Millisecond), float64(c.best)/float64(cp.best), float64(c.best)/float64(durable.best))
		if c.argv != nil {
			fmt.Printf("  processor %8s  peak memory %d MiB", c.cpu.Round(time.Millisecond), c.peak>>10)
		}
		fmt.Println()
	}
	return nil
}

// serve starts a server and returns when it answers.
func serve(binary, data string) (*exec.Cmd, string, error) {
	cmd := exec.Command(binary, "server", "--listen", "127.0.0.1:0", "--data-dir", data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n') // ends when it listens
	_, rest, found := strings.Cut(line, "http://")
	if err != nil || !found {
		_ = cmd.Process.Kill()
		return nil, "", errors.Join(fmt.Errorf("the server said %q", line), err, cmd.Wait())
	}
	return cmd, "http://" + strings.Fields(rest)[0], nil
}

// prepare gives every command the same machine: nothing of another is left to be
// written back, and there is free memory for a copy that the machine has already
// been given by its host, which is slow on some.
func prepare(file, scratch, got string) error {
	if err := os.RemoveAll(got); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "--reflink=never", file, scratch).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w %s", err, out)
	}
	syscall.Sync()
	return os.Remove(scratch)
}

// block is how much is read at once, as in internal/datastore.
const block = 128 << 10

// pass reads a file in blocks and gives them to w.
func pass(file string, w io.Writer) error {
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{from}, make([]byte, block))
	return err
}

// create copies a file with the same calls, in one thread.
func create(file, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(pass(file, out), out.Close())
}

func (c *command) run(first bool) error {
	if c.work != nil {
		begun := time.Now()
		err := c.work()
		if took := time.Since(begun); first || took < c.best {
			c.best = took
		}
		return err
	}
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.name, err, stderr.Bytes())
	}
	took := time.Since(begun)
	if first || took < c.best {
		c.best = took
		c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = max(c.peak, usage.Maxrss)
	}
	return nil
}
