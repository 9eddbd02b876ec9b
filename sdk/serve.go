package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// load is what is looked at of a load's head.
type load struct {
	Mode    string            `json:"mode"`
	Workdir string            `json:"workdir"`
	Env     map[string]string `json:"env"`
	Event   struct {
		Trigger Trigger `json:"trigger"`
		Worker  string  `json:"worker"`
		Batch   bool    `json:"batch"`
	} `json:"event"`
}

// eventHead is the head of an event.
type eventHead struct {
	ID          string            `json:"id"`
	Method      string            `json:"method"`
	Path        string            `json:"path"`
	URL         string            `json:"url"`
	ContentType string            `json:"content_type"`
	Timestamp   float64           `json:"timestamp"`
	Fields      map[string]string `json:"fields"`
	Headers     map[string]string `json:"headers"`
	Trigger     *Trigger          `json:"trigger"`
	LogLevel    string            `json:"log_level"`
}

// failure is the host's word for what went wrong before any event.
type failure struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// server answers the events of one pair of pipes.
type server struct {
	handler Handler
	out     *writer
	log     io.Writer
	loaded  load
	running sync.WaitGroup
}

// serveInherited serves on the descriptors 3 and 4 and returns the exit status.
func serveInherited(handler Handler) int {
	in, out := os.NewFile(3, "events"), os.NewFile(4, "responses")
	for _, file := range []*os.File{in, out} { // what the function starts has no business with them
		if file == nil {
			fmt.Fprintln(os.Stderr, "sdk: the descriptors 3 and 4 are not open")
			return 70
		}
		syscall.CloseOnExec(int(file.Fd()))
	}
	if err := os.Unsetenv(workerVariable); err != nil { // nor with this
		fmt.Fprintln(os.Stderr, "sdk:", err)
		return 70
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGPIPE) // a cancelled call says so in a frame
	return serve(in, out, os.Stderr, handler)
}

func serve(in io.Reader, out, log io.Writer, handler Handler) int {
	s := &server{handler: handler, out: newWriter(out), log: log}
	hello := map[string]any{"protocol": version, "implementation": "go", "python": "", "pid": os.Getpid(), "go": runtime.Version()}
	if err := s.out.writeJSON(typeHello, 0, hello); err != nil {
		return 71
	}
	err := s.take(newReader(in))
	s.running.Wait()
	s.out.flush()
	var violation *protocolError
	if errors.As(err, &violation) {
		_ = s.out.writeJSON(typeFailure, 0, failure{"ProtocolError", violation.text})
		s.out.flush()
		return 70
	}
	return 0
}

// take reads frames until the worker is drained or the host has gone away.
func (s *server) take(in reader) error {
	for {
		f, err := in.next()
		if err != nil {
			return err
		}
		switch f.kind {
		case typeLoad:
			err = s.load(f)
		case typeEvent:
			s.running.Add(1)
			go func() {
				defer s.running.Done()
				s.answer(f)
			}()
		case typeDrain:
			return nil
		case typeCancel:
		default:
			if f.flags&flagOptional == 0 {
				err = &protocolError{fmt.Sprintf("a frame of the unknown type %d arrived", f.kind)}
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *server) load(f frame) error {
	refuse := func(format string, args ...any) error {
		return s.out.writeJSON(typeFailure, f.call, failure{"UserError", fmt.Sprintf(format, args...)})
	}
	if err := json.Unmarshal(f.head, &s.loaded); err != nil {
		return &protocolError{"the head of a load: " + err.Error()}
	}
	if s.loaded.Mode != "event" {
		return refuse("this program serves events and cannot be run; deploy it with kind nuclio")
	}
	if s.loaded.Event.Batch {
		return refuse("a handler in Go takes one event at a time; leave the batch out of its trigger")
	}
	for name, value := range s.loaded.Env {
		if err := os.Setenv(name, value); err != nil {
			return refuse("the variable %s cannot be set: %v", name, err)
		}
	}
	if s.loaded.Workdir != "" {
		if err := os.Chdir(s.loaded.Workdir); err != nil {
			return refuse("the working directory cannot be entered: %v", err)
		}
	}
	return s.out.writeJSON(typeLoaded, f.call, map[string]any{"handler": "main", "async": true})
}

// answer calls the handler with one event and sends what it returns.
func (s *server) answer(f frame) {
	var head eventHead
	if len(f.head) > 0 {
		if err := json.Unmarshal(f.head, &head); err != nil {
			s.fail(f.call, nil, fmt.Errorf("the head of an event: %w", err))
			return
		}
	}
	event := &Event{
		ID: head.ID, Method: head.Method, Path: head.Path, URL: head.URL, ContentType: head.ContentType,
		Fields: head.Fields, Headers: head.Headers, Body: f.body, Trigger: s.loaded.Event.Trigger,
	}
	if head.Trigger != nil {
		event.Trigger = *head.Trigger
	}
	seconds := int64(head.Timestamp)
	event.Timestamp = time.Unix(seconds, int64((head.Timestamp-float64(seconds))*1e9))
	var records *records
	var handler slog.Handler = slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})
	if f.flags&flagCapture != 0 {
		records = newRecords(head.LogLevel)
		handler = &capture{Handler: handler, records: records}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	value, err := s.call(&Context{Context: ctx, Logger: slog.New(handler), Worker: s.loaded.Event.Worker}, event)
	if err != nil {
		s.fail(f.call, records, err)
		return
	}
	if err := s.respond(f.call, records, value); err != nil {
		s.fail(f.call, records, err)
	}
}

// panicked is a panic of the handler.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func (s *server) call(ctx *Context, event *Event) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p, debug.Stack()}
		}
	}()
	return s.handler(ctx, event)
}
