package activator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/template"
)

// Templates are interpreters that have imported what functions need; see package
// template.
type Templates interface {
	// Socket returns the socket of the template for spec, or "" and why there is none.
	Socket(ctx context.Context, spec template.Spec) (socket, reason string)
}

// Options configure the activator of a data directory.
type Options struct {
	DataDir   string
	Logger    *slog.Logger
	Templates Templates     // are asked for what parked functions need, so that it stays; nil asks for none
	Idle      time.Duration // it ends when it has held no function for so long; 0 is DefaultIdle
}

// DefaultIdle is how long the activator waits for another function when it has none.
const DefaultIdle = 5 * time.Second

const (
	holdEvery = 2 * time.Minute // templates are asked for
	endTime   = time.Minute     // a processor may take to end after it has handed its function over
)

// activator is the process.
//
// Goroutines, for which Run waits: one accepts processors, one for each of these until it has ended, one
// holds templates; and for each function those of package function.go.
type activator struct {
	options  Options
	logger   *slog.Logger
	ctx      context.Context
	control  *http.Server // of all functions' control sockets
	starting chan struct{}
	work     sync.WaitGroup

	mu        sync.Mutex
	functions map[string]*function // by folder
	arriving  int                  // connections of processors
	lonely    *time.Timer          // runs while there is neither
	kept      map[string]*kept
}

// kept is something that parked functions share, and how many do.
type kept struct {
	users int
	spec  *template.Spec // of a template
	lease *env.Lease     // of an environment
}

// Run holds what processors of the data directory hand over, until ctx ends or there
// has been nothing for a while. Functions that it holds when ctx ends are served no
// more. fault.CodeConflict if the data directory has an activator already.
func Run(ctx context.Context, options Options) error {
	if options.Idle == 0 {
		options.Idle = DefaultIdle
	}
	folder := realtime.Dir{Path: filepath.Join(options.DataDir, folderName)}
	if err := os.MkdirAll(folder.Path, 0o700); err != nil {
		return fmt.Errorf("create the activator's folder: %w", err)
	}
	lock, err := filelock.Acquire(filepath.Join(folder.Path, lockName))
	if errors.Is(err, filelock.ErrHeld) {
		return fault.Conflict("process %d is the activator of %s already", filelock.Holder(filepath.Join(folder.Path, lockName)), options.DataDir)
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	listener, err := folder.Listen(socketName)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	a := &activator{
		options: options, logger: options.Logger, ctx: ctx, starting: make(chan struct{}, 2*runtime.NumCPU()),
		functions: map[string]*function{}, kept: map[string]*kept{}, lonely: time.AfterFunc(options.Idle, end),
	}
	a.control = &http.Server{
		Handler: a.controlHandler(), ReadHeaderTimeout: answerTime, ErrorLog: slog.NewLogLogger(a.logger.Handler(), slog.LevelDebug),
		BaseContext: func(l net.Listener) context.Context { return l.(*controlListener).base },
	}
	a.control.SetKeepAlivesEnabled(false) // a connection must not outlast the handing over
	a.work.Go(func() { a.hold(end) })
	a.work.Go(func() { a.accept(listener.(*net.UnixListener)) })
	<-ctx.Done()
	// Whoever finds no socket starts another activator, which waits for the lock.
	os.Remove(filepath.Join(folder.Path, socketName))
	listener.Close()
	a.release()
	a.control.Close()
	a.work.Wait()
	return nil
}

// accept takes processors' connections.
func (a *activator) accept(listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			if a.ctx.Err() != nil {
				return
			}
			time.Sleep(pauseTime) // no descriptors are left
			continue
		}
		a.count(1)
		a.work.Go(func() {
			defer a.count(-1)
			stop := context.AfterFunc(a.ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			if err := a.take(conn); err != nil {
				a.logger.Warn("a function is not parked", "reason", err)
				say(conn, err.Error())
			}
		})
	}
}

// count counts connections of processors; the last thing to go begins the wait for the end.
func (a *activator) count(change int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arriving += change
	a.settle()
}

// settle lets the activator end some time after there is nothing to hold. a.mu is held.
func (a *activator) settle() {
	if a.arriving == 0 && len(a.functions) == 0 {
		a.lonely.Reset(a.options.Idle)
	} else {
		a.lonely.Stop()
	}
}

func say(conn net.Conn, word string) {
	raw, err := json.Marshal(word)
	if err == nil {
		_, _ = conn.Write(append(raw, '\n')) // or it has ended
	}
}

// take takes a function over from the processor at the other end.
func (a *activator) take(conn *net.UnixConn) error {
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	r, files, lines, err := receive(conn)
	if err != nil {
		for _, file := range files {
			file.Close()
		}
		return err
	}
	f, err := newFunction(a, r, files)
	if err != nil {
		return err
	}
	if err := a.add(f); err != nil {
		f.drop()
		return err
	}
	say(conn, readyWord)
	if err := expect(lines, goWord); err != nil {
		a.remove(f)
		f.drop()
		return nil // the processor has changed its mind, or died
	}
	if err := f.lock.Disown(); err != nil {
		a.remove(f)
		f.drop()
		return err
	}
	say(conn, doneWord)
	_ = conn.SetDeadline(time.Now().Add(endTime))
	if _, err := io.Copy(io.Discard, conn); err != nil && a.ctx.Err() == nil {
		a.logger.Warn("a processor does not end after it has handed its function over", "folder", r.Dir, "error", err)
	}
	a.logger.Debug("parked", "folder", r.Dir)
	f.begin()
	return nil
}

// add counts a function in and keeps what it needs.
func (a *activator) add(f *function) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return errors.New("the activator is about to end")
	}
	if a.functions[f.dir.Path] != nil {
		return fmt.Errorf("the function of %s is parked already", f.dir.Path)
	}
	for _, path := range f.environments {
		if err := a.keep("environment "+path, func(k *kept) (err error) { k.lease, err = env.Use(path); return err }); err != nil {
			return err
		}
		f.keeps = append(f.keeps, "environment "+path)
	}
	for _, spec := range f.templates {
		raw, err := json.Marshal(spec)
		if err != nil {
			return err
		}
		if err := a.keep("template "+string(raw), func(k *kept) error { k.spec = &spec; return nil }); err != nil {
			return err
		}
		f.keeps = append(f.keeps, "template "+string(raw))
	}
	f.templates, f.environments = nil, nil // they are shared
	a.functions[f.dir.Path] = f
	a.settle()
	return nil
}

// keep counts a user of something; make gets it for the first. a.mu is held.
func (a *activator) keep(key string, get func(*kept) error) error {
	k := a.kept[key]
	if k == nil {
		k = &kept{}
		if err := get(k); err != nil {
			return err
		}
		a.kept[key] = k
	}
	k.users++
	return nil
}

// remove forgets a function, and what nobody else needs of what it has kept.
func (a *activator) remove(f *function) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.functions[f.dir.Path] == f {
		delete(a.functions, f.dir.Path)
	}
	a.unkeep(f)
	a.settle()
}

// unkeep counts f out of what it has kept. a.mu is held.
func (a *activator) unkeep(f *function) {
	for _, key := range f.keeps {
		k := a.kept[key]
		if k.users--; k.users > 0 {
			continue
		}
		delete(a.kept, key)
		if k.lease != nil {
			if err := k.lease.Close(); err != nil {
				a.logger.Warn("give an environment back", "error", err)
			}
		}
	}
	f.keeps = nil
}

// release lets go of all functions; nobody serves them then.
func (a *activator) release() {
	a.mu.Lock()
	var all []*function
	for _, f := range a.functions {
		all = append(all, f)
	}
	a.mu.Unlock()
	for _, f := range all {
		f.release()
	}
}

// hold asks for the templates of parked functions until ctx ends, and ends with the data
// directory: who deletes that has no other way to tell.
func (a *activator) hold(end context.CancelFunc) {
	again := time.NewTicker(holdEvery)
	defer again.Stop()
	look := time.NewTicker(a.options.Idle)
	defer look.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-look.C:
			if _, err := os.Stat(a.options.DataDir); errors.Is(err, fs.ErrNotExist) {
				a.logger.Warn("the data directory has been deleted: the process ends", "folder", a.options.DataDir)
				end()
			}
		case <-again.C:
			a.askForTemplates()
		}
	}
}

func (a *activator) askForTemplates() {
	if a.options.Templates == nil {
		return
	}
	a.mu.Lock()
	var specs []template.Spec
	for _, k := range a.kept {
		if k.spec != nil {
			specs = append(specs, *k.spec)
		}
	}
	a.mu.Unlock()
	for _, spec := range specs {
		a.options.Templates.Socket(a.ctx, spec)
	}
}
