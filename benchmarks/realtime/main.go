// Command realtime measures what an event costs: frames into one worker, HTTP
// into a Python handler beside the same Go server that answers by itself and
// beside Python's own servers, what a constant load sees of redeploys, killed
// workers and a killed server, and what threads of free-threaded Python are beside processes.
//
//	go run ./benchmarks/realtime [-python python3] [-rows frames,http,large] [-during 5s] [-connections 64] [-workers 2]
//	go run ./benchmarks/realtime -rows held [-held 1m]
//	go run ./benchmarks/realtime -rows threads
//
// Rows are measured in turn, several times; the best of each is shown, so that
// other programs on the machine are unfair to none.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/worker"
	"github.com/millrace/millrace/test/pyenv"
)

type bench struct {
	self, python, runtime, dir string
	venv                       string // Python with uvicorn and FastAPI
	during                     time.Duration
	connections, workers       int
	rounds                     int
	profile                    string
}

func main() {
	log.SetFlags(0)
	var b bench
	var python, rows, what string
	var held time.Duration
	flag.StringVar(&python, "python", "python3", "interpreter")
	flag.StringVar(&rows, "rows", "frames,http,large", "what to measure: frames, http, large, held, threads")
	flag.DurationVar(&b.during, "during", 5*time.Second, "time of each row")
	flag.IntVar(&b.connections, "connections", 64, "connections of the load")
	flag.IntVar(&b.workers, "workers", 2, "Python processes")
	flag.IntVar(&b.rounds, "rounds", 2, "turns")
	flag.DurationVar(&held, "held", time.Minute, "time of the constant load")
	flag.StringVar(&b.profile, "profile", "", "file for a CPU profile of the processor, of the last row that has one")
	flag.StringVar(&what, "serve", "", "for the processes that this program starts")
	flag.Parse()
	var err error
	if what != "" {
		err = serve(what, b.profile)
	} else {
		err = b.run(python, rows, held)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func (b *bench) run(python, rows string, held time.Duration) error {
	path, err := exec.LookPath(python)
	if err != nil {
		return err
	}
	real, err := exec.Command(path, "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	b.python = string(real)
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "mrb"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.runtime, err = worker.Unpack(filepath.Join(b.dir, "runtime")); err != nil {
		return err
	}
	version, _ := exec.Command(b.python, "--version").Output()
	fmt.Printf("%s, %d workers, %d connections, %s a row\n\n", strings.TrimSpace(string(version)), b.workers, b.connections, b.during)
	for row := range strings.SplitSeq(rows, ",") {
		var err error
		switch row {
		case "frames":
			err = b.frames()
		case "http":
			err = b.http(100)
		case "large":
			if err = b.http(10 << 10); err == nil {
				err = b.http(1 << 20)
			}
		case "held":
			err = b.held(held)
		case "threads":
			err = b.threads()
		default:
			err = fmt.Errorf("there is no row %q", row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// contender is one of the servers that are compared.
type contender struct {
	name  string
	start func() (*server, error)
	best  *outcome
	cpu   usage // of the best
}

// usage is the processor time that each request took.
type usage struct {
	server   time.Duration // the process that listens
	children time.Duration // those that it has started
	client   time.Duration
}

func (u usage) all() time.Duration { return u.server + u.children + u.client }

func (b *bench) http(payload int) error {
	all := []*contender{
		{name: "net/http alone, handler in Go", start: b.alone},
		{name: "millrace's HTTP server alone, same handler", start: b.edge},
		{name: "millrace, Python handler", start: func() (*server, error) { return b.ours(b.workers) }},
	}
	python, ok := pyenv.Find("3.11", "3.12", "3.13", "3.10")
	if ok && b.venv == "" {
		var err error
		if b.venv, err = pyenv.Venv(context.Background(), python, "uvicorn", "uvloop", "httptools", "fastapi"); err != nil {
			log.Printf("without uvicorn and FastAPI: %v", err)
		}
	}
	if b.venv != "" {
		all = append(all,
			&contender{name: "uvicorn (uvloop, httptools), bare ASGI", start: func() (*server, error) { return b.uvicorn(asgiApp, b.workers) }},
			&contender{name: "uvicorn (uvloop, httptools), FastAPI", start: func() (*server, error) { return b.uvicorn(fastAPIApp, b.workers) }})
	}
	for range b.rounds {
		for _, c := range all {
			if err := b.measure(c, payload); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	fmt.Printf("HTTP, echo of %d bytes\n", payload)
	base := all[0].best.rate()
	for _, c := range all {
		o := c.best
		fmt.Printf("  %-42s %9.0f /s  × %.3f   p50 %6.2f ms  p99 %6.2f ms  CPU a request %6.1f µs: server %.1f, its children %.1f, client %.1f",
			c.name, o.rate(), o.rate()/base, ms(o.at(.5)), ms(o.at(.99)), us(c.cpu.all()), us(c.cpu.server), us(c.cpu.children), us(c.cpu.client))
		if len(o.failures) > 0 {
			fmt.Printf("  failures: %v", o.failures)
		}
		fmt.Println()
	}
	fmt.Println()
	return nil
}

func (b *bench) measure(c *contender, payload int) error {
	s, err := c.start()
	if err != nil {
		return err
	}
	defer s.stop()
	connections := b.connections
	if payload >= 1<<20 {
		connections = min(connections, 8)
	}
	if _, err := closed(s.address, "/", connections, payload, b.during/5); err != nil { // warm
		return err
	}
	before, beforeOwn := s.cpu()
	client := cpuOfTree(os.Getpid(), true)
	out, err := closed(s.address, "/", connections, payload, b.during)
	if err != nil {
		return err
	}
	if c.best == nil || out.rate() > c.best.rate() {
		n := time.Duration(out.requests)
		after, own := s.cpu()
		c.best = out
		c.cpu = usage{server: (own - beforeOwn) / n, children: (after - before - own + beforeOwn) / n, client: (cpuOfTree(os.Getpid(), true) - client) / n}
	}
	return nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
