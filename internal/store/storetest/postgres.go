package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoPostgres says that there is no PostgreSQL to start on this machine.
var ErrNoPostgres = errors.New("no PostgreSQL server programs found under /usr/lib/postgresql/*/bin or in PATH; install postgresql or set MILLRACE_TEST_POSTGRES_URL")

// Postgres is a PostgreSQL server for tests: the one MILLRACE_TEST_POSTGRES_URL
// names, else a private one in a temporary folder, reachable by a socket there
// and by nobody else.
type Postgres struct {
	url    *url.URL
	dir    string // "" for a server that is not ours
	server *exec.Cmd
	exited chan error
}

// StartPostgres starts the server and waits until it answers. The caller stops
// it. ErrNoPostgres when there is none.
func StartPostgres(ctx context.Context) (p *Postgres, err error) {
	if text := os.Getenv("MILLRACE_TEST_POSTGRES_URL"); text != "" {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("MILLRACE_TEST_POSTGRES_URL is not a URL")
		}
		return &Postgres{url: u}, nil
	}
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	// A short path: the name of a socket may have about 100 characters.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	p = &Postgres{dir: dir, exited: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop())
		}
	}()
	as, name, err := notRoot(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb as %s: %w\n%s", name, err, out)
	}
	// What a test stores need not survive a loss of power.
	p.server = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300", "-c", "max_locks_per_transaction=256")
	p.server.SysProcAttr, p.server.Dir = as, dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	p.server.Stdout, p.server.Stderr = log, log
	err = errors.Join(p.server.Start(), log.Close())
	if err != nil {
		p.server = nil
		return nil, err
	}
	go func() { p.exited <- p.server.Wait() }()
	p.url = &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: url.Values{"host": {dir}, "sslmode": {"disable"}}.Encode()}
	return p, p.ready(ctx)
}

// ready waits until the server answers.
func (p *Postgres) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.url.String())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case exit := <-p.exited:
			p.exited <- exit
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			return fmt.Errorf("postgres ended: %w\n%s", exit, text)
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Database creates an empty database and returns its URL and what drops it.
func (p *Postgres) Database(ctx context.Context, name string) (string, func() error, error) {
	if err := p.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", nil, err
	}
	u := *p.url
	u.Path = "/" + name
	return u.String(), func() error {
		return p.exec(context.WithoutCancel(ctx), "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	}, nil
}

func (p *Postgres) exec(ctx context.Context, query string) error {
	conn, err := pgx.Connect(ctx, p.url.String())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, query)
	return errors.Join(err, conn.Close(ctx))
}

// Stop ends a server that StartPostgres started and removes what it kept.
func (p *Postgres) Stop() error {
	if p == nil || p.dir == "" {
		return nil
	}
	if p.server != nil {
		_ = p.server.Process.Signal(syscall.SIGQUIT) // it may have ended
		select {
		case <-p.exited:
		case <-time.After(10 * time.Second):
			_ = p.server.Process.Kill() // likewise
			<-p.exited
		}
	}
	return os.RemoveAll(p.dir)
}

// postgresBin finds the folder of the newest server installed.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		path, err := exec.LookPath("postgres")
		if err != nil {
			return "", ErrNoPostgres
		}
		return filepath.Dir(path), nil
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // not a number: oldest
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// notRoot returns how to start the server as somebody else when we are root, as
// whom it refuses to run, and gives dir to that user.
func notRoot(dir string) (*syscall.SysProcAttr, string, error) {
	if os.Getuid() != 0 {
		return nil, "this user", nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.Atoi(u.Uid)
		gid, errG := strconv.Atoi(u.Gid)
		if err := errors.Join(errU, errG, os.Chown(dir, uid, gid)); err != nil {
			return nil, name, err
		}
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, name, nil //nolint:gosec // ids are not negative
	}
	return nil, "", errors.New("PostgreSQL does not run as root and there is neither a user postgres nor nobody")
}
