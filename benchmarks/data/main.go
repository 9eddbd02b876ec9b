// Command data measures `millrace artifact put` and `get` of a large file beside cp
// on the same disk: the best of several turns, all three in each turn, and the peak
// memory of the commands.
//
//	go run ./benchmarks/data [-size 1024] [-n 3] [-dir DIR]
package main

import (
	"bytes"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// command is one of the things compared.
type command struct {
	name string
	argv []string
	best time.Duration
	peak int64 // KiB
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
	commands := []*command{
		{name: "cp", argv: []string{"cp", "--reflink=never", file, filepath.Join(dir, "copy")}},
		{name: "artifact put", argv: []string{binary, "artifact", "put", file, "--key", "big", "--data-dir", data}},
		{name: "artifact get", argv: []string{binary, "artifact", "get", "big", got, "--data-dir", data}},
	}
	for turn := range n {
		if err := os.RemoveAll(filepath.Join(data, "artifacts")); err != nil {
			return err
		}
		for _, c := range commands {
			for _, target := range []string{filepath.Join(dir, "copy"), got} {
				if err := os.RemoveAll(target); err != nil {
					return err
				}
			}
			syscall.Sync() // nobody writes back what another has written
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
		fmt.Printf("%-14s %8s  %5.2f x cp  peak memory %d MiB\n", c.name, c.best.Round(time.Millisecond), float64(c.best)/float64(commands[0].best), c.peak>>10)
	}
	return nil
}

func (c *command) run(first bool) error {
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
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = max(c.peak, usage.Maxrss)
	}
	return nil
}
