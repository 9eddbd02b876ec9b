// Package worker runs user code in supervised processes and speaks to them over
// the protocol of docs/protocol.md.
//
// One Worker owns one process:
//
//	Start ──► running ──Load──► loaded ──Call…──► loaded ──Drain──► gone
//	             └────────────── death at any point ────────────────►┘
//
// Start returns when the process exists; it does not wait until the interpreter
// is up, so that a worker can be started while it is still being found out what
// it shall do. Death is an event: whoever waits for something from the worker
// gets a *DiedError which says how it ended, and Wait returns the same to
// everybody. Failures of user code are values (Failure), never a death.
//
// Goroutines of a worker: one that starts the process and waits for it, and one
// that reads the pipe; both end with the process, and Done is closed last. The
// reader hands emissions to their call's emit function itself, so that a slow
// emit slows the worker down by way of the full pipe, and nothing is queued.
// Writers write their own frames; whoever comes while somebody writes leaves its
// frame with that one, so pipelined calls leave in few writes. At most
// maxUnwritten bytes wait like this, then callers block.
//
// A plain executable is supervised in the same way by StartCommand, without the
// protocol.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
)

// Spec says what worker to start: an interpreter, or a program. Interpreter needs
// RuntimeDir, which is what Unpack returned.
type Spec struct {
	Interpreter string
	RuntimeDir  string
	// Program is the command of an executable that speaks the protocol itself, in
	// place of an interpreter.
	Program []string
	// Template is the socket of a template of the same interpreter and runtime that
	// the process is forked from; "" is none. When that cannot be done, for
	// whatever reason, a fresh process is started.
	Template string
	// Env is the whole environment; nil is an empty one.
	Env []string
	Dir string // "" is this process's
	// Stdout and Stderr belong to user code; nil is /dev/null.
	Stdout, Stderr *os.File
	// Prefix is put before the interpreter, such as {"nice", "-n", "5"}; it has to
	// pass on descriptors 3 and 4 and to replace itself with the interpreter.
	Prefix []string
	// InterpreterArgs go between interpreter and script, such as {"-X", "dev"}.
	InterpreterArgs []string
	// Attr may change how the process is started; see Command.Attr.
	Attr func(*syscall.SysProcAttr)
	// Logger gets changes of state; nil discards them.
	Logger *slog.Logger
}

// Hello is what a worker says of itself when it is up.
type Hello struct {
	Python         string // 3.11.7
	Implementation string // cpython
	PID            int
}

// DiedError says that the worker's process ended while something was expected
// from it.
type DiedError struct {
	Exit  Exit
	Begun bool  // of an event: the handler may have begun it
	Cause error // the violation of the protocol because of which it was killed, if that was so
}

func (e *DiedError) Error() string {
	if e.Cause != nil {
		return e.Cause.Error()
	}
	return "the worker process " + e.Exit.String()
}

func (e *DiedError) Unwrap() error { return e.Cause }

// Worker is one process that answers calls. Its methods may be called from any
// goroutine.
type Worker struct {
	*Process
	logger *slog.Logger
	out    *os.File   // to the worker
	in     *os.File   // from the worker
	keep   []*os.File // the worker's ends: neither pipe breaks before the process has ended
	read   chan struct{}

	hello   chan struct{} // closed when greeting is set
	loadMsg chan loadResult

	mu       sync.Mutex
	greeting Hello
	forks    bool
	calls    map[uint32]*pending
	lastCall uint32
	violated error // why reading stopped, if not at the end
	modules  []string
	reported bool // modules is set
	forked   bool // set by Start
	events   map[uint32]Sink
	async    bool
	threads  int
	mark     func() (uint32, bool)
	reply    Reply // the reader's, for one reply after the other

	flushing  sync.WaitGroup // of flushRest
	writing   sync.Mutex     // guards the seven below; before mu
	corked    bool
	yielding  bool // somebody will flush in a moment
	writable  *sync.Cond
	unwritten []byte
	spare     []byte
	busy      bool
	wide      bool // out holds more than pipes usually do
	writeErr  error
}

const maxUnwritten = 4 << 20

type loadResult struct {
	handler string
	forks   bool
	failure *Failure
}

type pending struct {
	iter int
	done func(Answer, error) // called once, by whoever takes the call out of Worker.calls

	mu   sync.Mutex // held while emit runs
	emit func(Event) error
}

// close makes sure that emit is not running and never runs again.
func (p *pending) close() {
	p.mu.Lock()
	p.emit = nil
	p.mu.Unlock()
}

type answered struct {
	answer Answer
	err    error
}

// Start starts the process of a worker. It fails only if there can be no process;
// whether that speaks the protocol is found out by Ready or Load. ctx is for the
// start alone: the worker lives until it is drained or killed, or this process
// ends.
func Start(ctx context.Context, spec Spec) (*Worker, error) {
	w := &Worker{
		logger:  spec.Logger,
		read:    make(chan struct{}),
		hello:   make(chan struct{}),
		loadMsg: make(chan loadResult, 1),
		calls:   map[uint32]*pending{},
		events:  map[uint32]Sink{},
	}
	w.writable = sync.NewCond(&w.writing)
	if w.logger == nil {
		w.logger = slog.New(slog.DiscardHandler)
	}
	err := errNoTemplate
	w.forked = spec.Template != ""
	if spec.Template != "" {
		if err = w.launch(ctx, spec, w.fork); err != nil && ctx.Err() == nil {
			w.logger.Debug("the worker is not forked from its template", "template", spec.Template, "reason", err)
		}
	}
	if err != nil {
		w.forked = false
		err = w.launch(ctx, spec, w.execute)
	}
	if err != nil {
		return nil, err
	}
	w.logger.Debug("worker started", "pid", w.PID(), "interpreter", spec.Interpreter)
	go w.readLoop()
	return w, nil
}

// programVariable tells a program that it is started as a worker.
const programVariable = "MILLRACE_WORKER"

var errNoTemplate = errors.New("there is no template")

// launch makes the pipes and, by way of begin, the process. What it made is gone
// after an error.
func (w *Worker) launch(ctx context.Context, spec Spec, begin func(context.Context, Spec) (*Process, error)) error {
	childIn, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	in, keep, err := os.Pipe()
	if err != nil {
		closeAll(childIn, out)
		return fmt.Errorf("start worker: %w", err)
	}
	w.out, w.in, w.keep = out, in, []*os.File{childIn, keep}
	if w.Process, err = begin(ctx, spec); err != nil {
		closeAll(out, in, childIn, keep)
	}
	return err
}

func (w *Worker) fork(ctx context.Context, spec Spec) (*Process, error) {
	return fork(ctx, spec, w.keep, [3]int{os.Getpid(), descriptor(w.out), descriptor(w.in)}, w.ended)
}

func (w *Worker) execute(ctx context.Context, spec Spec) (*Process, error) {
	argv := append([]string{}, spec.Prefix...)
	if len(spec.Program) > 0 {
		return startProcess(ctx, Command{
			Argv: append(argv, spec.Program...), Env: append(spec.Env[:len(spec.Env):len(spec.Env)], programVariable+"=1"), Dir: spec.Dir,
			Stdout: spec.Stdout, Stderr: spec.Stderr, Attr: spec.Attr, extra: w.keep,
		}, w.ended)
	}
	argv = append(argv, spec.Interpreter)
	argv = append(argv, spec.InterpreterArgs...)
	argv = append(argv, "-S", filepath.Join(spec.RuntimeDir, "boot.py"))
	for _, number := range []int{os.Getpid(), descriptor(w.out), descriptor(w.in)} {
		argv = append(argv, strconv.Itoa(number))
	}
	return startProcess(ctx, Command{
		Argv: argv, Env: spec.Env, Dir: spec.Dir, Stdout: spec.Stdout, Stderr: spec.Stderr, Attr: spec.Attr,
		extra: w.keep,
	}, w.ended)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// descriptor returns the number of f without changing its mode, as Fd would.
func descriptor(f *os.File) int {
	number := -1
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { number = int(fd) })
	}
	return number
}

// ended runs when the process is gone: it lets the reader come to the end of what
// was sent, and everybody who waits know.
func (w *Worker) ended() {
	closeAll(w.keep...)
	// A process that user code left behind can hold the pipe open.
	_ = w.in.SetReadDeadline(time.Now().Add(time.Second))
	<-w.read
	w.in.Close()
	w.out.Close()
	w.mu.Lock()
	died := &DiedError{Exit: w.exit, Cause: w.violated}
	open, events := w.calls, w.events
	w.calls, w.events = nil, nil
	w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(open)) {
		open[id].done(Answer{}, died)
	}
	w.endEvents(events, died)
	w.flushing.Wait()
	w.logger.Debug("worker ended", "pid", w.PID(), "how", w.exit.String())
}

func (w *Worker) died() error {
	exit := w.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return &DiedError{Exit: exit, Cause: w.violated}
}

// Ready waits until the interpreter is up and returns what it said of itself.
func (w *Worker) Ready(ctx context.Context) (Hello, error) {
	select {
	case <-w.hello:
	default:
		select {
		case <-w.hello:
		case <-w.Done():
			select {
			case <-w.hello:
			default:
				return Hello{}, w.died()
			}
		case <-ctx.Done():
			return Hello{}, context.Cause(ctx)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.greeting, nil
}

// Load makes the worker load code and returns the handler's name. Call it once.
// If the code cannot be loaded the error is a *Failure; if the process died over
// it, a *DiedError.
func (w *Worker) Load(ctx context.Context, load Load) (string, error) {
	if load.Event != nil {
		w.mu.Lock()
		w.mark = load.Event.Mark
		w.mu.Unlock()
	}
	if err := w.send(Frame{Type: TypeLoad, Head: load.encode()}); err != nil {
		return "", err
	}
	var result loadResult
	select {
	case result = <-w.loadMsg:
	case <-w.Done():
		select {
		case result = <-w.loadMsg:
		default:
			return "", w.died()
		}
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if result.failure != nil {
		return "", result.failure
	}
	w.mu.Lock()
	w.forks = result.forks
	w.mu.Unlock()
	return result.handler, nil
}

// Forks reports whether calls are executed by forks of the process, as Load.Fork
// asked for: they are not when the code has started threads.
func (w *Worker) Forks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.forks
}

// Call makes one call and returns how it ended. Emissions go to emit, in their
// order and before Call returns, from a goroutine of the worker; nil drops them.
// Calls may overlap: the worker answers them one after the other.
//
// A failure of user code is an Answer, not an error. The error is a *DiedError
// when the process ended without an answer, emit's own error when it had one
// (what follows is dropped then; kill the worker), or ctx's cause: the call is
// cancelled then, and its answer dropped.
func (w *Worker) Call(ctx context.Context, call Call, emit func(Event) error) (Answer, error) {
	over := make(chan answered, 1)
	id, p := w.beginCall(call, emit, func(answer Answer, err error) { over <- answered{answer: answer, err: err} })
	select {
	case result := <-over:
		return result.answer, result.err
	case <-ctx.Done():
		w.take(id)
		p.close()
		w.cancel(id)
		return Answer{}, context.Cause(ctx)
	}
}

// BeginCall is Call without the wait. done is called once with what Call would have
// returned, from a goroutine of the worker or this one; of several calls in the
// order in which they were begun, also when the process ends. It must not wait for
// the worker. The id is for Interrupt.
func (w *Worker) BeginCall(call Call, emit func(Event) error, done func(Answer, error)) (id uint32) {
	id, _ = w.beginCall(call, emit, done)
	return id
}

func (w *Worker) beginCall(call Call, emit func(Event) error, done func(Answer, error)) (uint32, *pending) {
	p := &pending{iter: call.Iter, emit: emit, done: done}
	if p.iter == 0 && call.Run != nil {
		iter, _ := document.Int(call.Run, "metadata", "iteration")
		p.iter = int(iter)
	}
	w.mu.Lock()
	if w.calls == nil {
		w.mu.Unlock()
		done(Answer{}, w.died())
		return 0, p
	}
	w.lastCall++
	if w.lastCall == 0 {
		w.lastCall++
	}
	id := w.lastCall
	w.calls[id] = p
	w.mu.Unlock()
	err := w.send(Frame{Type: TypeCall, Call: id, Head: call.encode()})
	var died *DiedError // then the end of the process ends the call, in its turn
	if err != nil && !errors.As(err, &died) && w.take(id) {
		done(Answer{}, err)
	}
	return id, p
}

// Interrupt asks for the end of calls: the answer of each says aborted as soon as
// the code gives way. See Cancel.
func (w *Worker) Interrupt(ids ...uint32) { w.cancel(ids...) }

// Cancel interrupts all calls in flight: their Call returns an Answer with state
// aborted as soon as the code gives way. Code that catches KeyboardInterrupt, or
// does not return from native code, is stopped by Terminate only.
func (w *Worker) Cancel() {
	w.mu.Lock()
	ids := make([]uint32, 0, len(w.calls))
	for id := range w.calls {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	w.cancel(ids...)
}

// cancel first says which calls, then interrupts: the worker looks for the frames
// when the interrupt arrives.
func (w *Worker) cancel(ids ...uint32) {
	for _, id := range ids {
		if w.send(Frame{Type: TypeCancel, Call: id}) != nil {
			return
		}
	}
	if len(ids) > 0 {
		_ = w.interrupt()
	}
}

// Drain lets the worker finish the calls it has, end its threads and exit
// functions, and exit; it returns how it ended. When ctx ends first the worker
// goes on, and the error is ctx's cause.
func (w *Worker) Drain(ctx context.Context) (Exit, error) {
	err := w.send(Frame{Type: TypeDrain})
	var died *DiedError
	if err != nil && !errors.As(err, &died) {
		return Exit{}, err
	}
	select {
	case <-w.Done():
		return w.Wait(), nil
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

// take makes a call the caller's to end; false when it has been taken.
func (w *Worker) take(id uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, open := w.calls[id]
	delete(w.calls, id)
	return open
}

// send writes a frame, or leaves it with the goroutine that is writing. After an
// error nothing more is sent.
func (w *Worker) send(f Frame) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	for len(w.unwritten) > maxUnwritten && w.writeErr == nil {
		w.writable.Wait()
	}
	if w.writeErr != nil {
		return w.writeErr
	}
	var err error
	if w.unwritten, err = AppendFrame(w.unwritten, f); err != nil || w.busy {
		return err
	}
	w.busy = true
	for len(w.unwritten) > 0 && w.writeErr == nil {
		data := w.unwritten
		w.unwritten = w.spare[:0]
		w.writing.Unlock()
		_, err := w.out.Write(data)
		if err != nil {
			err = w.writeFailed(err)
		}
		w.writing.Lock()
		w.writeErr = err
		w.spare = data[:0]
		if cap(data) > maxUnwritten {
			w.spare = nil
		}
		w.writable.Broadcast()
	}
	w.busy = false
	return w.writeErr
}

// writeFailed turns an error of the pipe into the reason for it. Only a process
// that is gone, or about to be, does not read.
func (w *Worker) writeFailed(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return w.died()
	}
	return fmt.Errorf("write to worker: %w", err)
}

// readLoop dispatches frames until the process is gone or breaks the protocol.
func (w *Worker) readLoop() {
	defer close(w.read)
	reader := NewReader(w.in)
	reader.large = func() { widen(w.in) }
	corked := false
	for {
		frame, err := reader.Next()
		if err == nil {
			if !corked && frame.Type == TypeResponse {
				corked = true
				w.cork()
			}
			err = w.dispatch(frame)
		}
		if corked && (err != nil || !reader.Buffered()) {
			corked = false
			w.uncork()
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, os.ErrClosed) {
			w.mu.Lock()
			w.violated = err
			w.mu.Unlock()
			w.logger.Warn("worker killed", "pid", w.PID(), "err", err)
			_ = w.Kill()
		}
		return
	}
}

func (w *Worker) dispatch(frame Frame) error {
	if frame.Type == TypeResponse || frame.Type == TypePiece {
		return w.replied(frame)
	}
	var head document.Object
	if len(frame.Head) > 0 {
		var err error
		if head, err = document.DecodeObject(frame.Head); err != nil {
			return violation("the head of a frame of type %d: %v", frame.Type, err)
		}
	}
	switch frame.Type {
	case TypeHello:
		return w.greeted(head)
	case TypeLoaded:
		w.mu.Lock()
		w.async = document.Bool(head, "async")
		threads, _ := document.Int(head, "threads")
		w.threads = int(threads)
		w.mu.Unlock()
		return w.loaded(loadResult{handler: document.String(head, "handler"), forks: document.Bool(head, "fork")})
	case TypeFailure:
		failure := failureOf(head)
		if failure.Type == "ProtocolError" {
			return violation("the worker refused what it was sent: %s", failure.Message)
		}
		return w.loaded(loadResult{failure: failure})
	case TypeEmit:
		event, err := eventOf(head)
		if err != nil {
			return err
		}
		w.emitted(frame.Call, event)
		return nil
	case TypeAnswer:
		return w.answered(frame.Call, head)
	}
	if frame.Type == TypeNote {
		w.noted(head)
		return nil
	}
	if frame.Flags&FlagOptional != 0 {
		return nil
	}
	return violation("a frame of the unknown type %d arrived from the worker", frame.Type)
}

func (w *Worker) greeted(head document.Object) error {
	if version, _ := document.Int(head, "protocol"); version != Version {
		return violation("the worker speaks version %d, this program version %d; remove the unpacked runtime folder", version, Version)
	}
	pid, _ := document.Int(head, "pid")
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.hello:
		return violation("the worker greeted twice")
	default:
	}
	w.greeting = Hello{
		Python:         document.String(head, "python"),
		Implementation: document.String(head, "implementation"),
		PID:            int(pid),
	}
	close(w.hello)
	return nil
}

func (w *Worker) loaded(result loadResult) error {
	select {
	case w.loadMsg <- result:
		return nil
	default:
		return violation("the worker answered a load that was not asked for")
	}
}

// noted takes what the worker says of itself.
func (w *Worker) noted(head document.Object) {
	if text := document.String(head, "text"); text != "" {
		w.logger.Debug("worker", "pid", w.PID(), "says", text)
	}
	list, ok := head["modules"].([]any)
	if !ok {
		return
	}
	modules := make([]string, 0, len(list))
	for _, item := range list {
		if name, ok := item.(string); ok {
			modules = append(modules, name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.modules, w.reported = modules, true
}

// Modules returns what the code has imported of its environment, in the order of
// the imports, when Load.Report asked for it: known once a handler is loaded, and
// for ModeMain once it has been called. ok is false until then.
func (w *Worker) Modules() (modules []string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.modules, w.reported
}

// Forked reports whether the process was forked from a template. What it leaves
// behind is no child of this process then, whatever Adopt of package limits says.
func (w *Worker) Forked() bool { return w.forked }

// emitted hands an event to its call. One of a call that is given up is dropped.
func (w *Worker) emitted(id uint32, event Event) {
	w.mu.Lock()
	p := w.calls[id]
	w.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.emit == nil {
		return
	}
	if err := p.emit(event); err != nil {
		p.emit = nil
		if w.take(id) {
			p.done(Answer{}, err)
		}
	}
}

// answered ends a call. Results that came with the answer are one more event.
func (w *Worker) answered(id uint32, head document.Object) error {
	w.mu.Lock()
	p := w.calls[id]
	w.mu.Unlock()
	answer, err := answerOf(head)
	if err != nil || p == nil {
		return err
	}
	if update := document.Map(head, "update"); update != nil {
		update["t"], update["iter"] = "update", p.iter
		w.emitted(id, Event{Type: "update", Iter: p.iter, Doc: update})
	}
	if w.take(id) {
		p.done(answer, nil)
	}
	return nil
}

// Succeeded reports whether the call completed.
func (a Answer) Succeeded() bool { return a.State == run.Completed }
