package worker

import (
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
)

// Mode says how the code is executed.
type Mode string

// The modes.
const (
	ModeHandler Mode = "handler" // a function or method is called
	ModeMain    Mode = "main"    // the file runs as __main__
	ModeEvent   Mode = "event"   // the handler takes a context and an event; see Begin
)

// Load says what code a worker shall load and how. Paths are absolute.
type Load struct {
	Mode    Mode   // "" is ModeHandler
	Handler string // function, module.function or Class::method
	File    string // the code file; its module is called by the file's stem
	Module  string // dotted name of the module to import when there is no File
	Workdir string // entered before loading; "" stays where the process started
	// Path goes to the front of sys.path, the folder of File when it is empty;
	// PythonPath to its end.
	Path       []string
	PythonPath []string
	// Env is set before the code is loaded. Variables that the interpreter itself
	// reads at its start (PYTHON…, except PYTHONPATH) come too late here; they
	// belong into Spec.Env.
	Env  map[string]string
	Argv []string // sys.argv[1:]
	// Run is the run document that calls without one of their own belong to.
	Run document.Object
	// Report asks what the code imports of its environment; see Worker.Modules.
	Report bool
	// Event says how events are served, with ModeEvent.
	Event *EventLoad
	// Fork has each call executed by a fork of the process, if it can be forked; see
	// Worker.Forks.
	Fork bool
	// Marks gives Answer.Own to calls with Call.Marks. Standard output and error have
	// to be one file that is opened for this worker alone.
	Marks bool
}

func (l Load) encode() []byte {
	head := document.Object{"mode": "handler"}
	if l.Mode != "" {
		head["mode"] = string(l.Mode)
	}
	for key, value := range map[string]string{"handler": l.Handler, "file": l.File, "module": l.Module, "workdir": l.Workdir} {
		if value != "" {
			head[key] = value
		}
	}
	for key, list := range map[string][]string{"path": l.Path, "pythonpath": l.PythonPath, "argv": l.Argv} {
		if len(list) > 0 {
			head[key] = anyList(list)
		}
	}
	if len(l.Env) > 0 {
		env := document.Object{}
		for key, value := range l.Env {
			env[key] = value
		}
		head["env"] = env
	}
	if l.Run != nil {
		head["run"] = l.Run
	}
	if l.Report {
		head["modules"] = true
	}
	if l.Event != nil {
		event := document.Object{"trigger": document.Object{"kind": l.Event.TriggerKind, "name": l.Event.TriggerName}, "worker": l.Event.Worker}
		if l.Event.Begun != "" {
			event["begun"] = l.Event.Begun
		}
		if l.Event.Batch {
			event["batch"] = true
		}
		if l.Event.Jobs {
			event["jobs"] = true
		}
		if l.Event.Threads > 1 {
			event["threads"] = l.Event.Threads
		}
		if l.Event.LogLevel != "" {
			event["log_level"] = l.Event.LogLevel
		}
		head["event"] = event
	}
	if l.Fork {
		head["fork"] = true
	}
	if l.Marks {
		head["marks"] = true
	}
	return document.Encode(head)
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, item := range list {
		out[i] = item
	}
	return out
}

// Call is one call. The zero Call executes the run given to Load.
type Call struct {
	Run        document.Object // the run document; nil means that of Load
	Iter       int             // over 0: the iteration that this call is
	Parameters document.Object // merged over the run's
	Inputs     document.Object // in place of the run's; nil keeps those
	Marks      bool            // say in Answer.Log where the call's output is in the log file
	Seed       *uint64         // of the random generators; nil leaves them as they are
}

func (c Call) encode() []byte {
	if c.Run == nil && c.Iter == 0 && c.Parameters == nil && c.Inputs == nil && !c.Marks && c.Seed == nil {
		return nil
	}
	head := document.Object{}
	if c.Run != nil {
		head["run"] = c.Run
	}
	if c.Iter > 0 {
		head["iter"] = c.Iter
	}
	if c.Parameters != nil {
		head["parameters"] = c.Parameters
	}
	if c.Inputs != nil {
		head["inputs"] = c.Inputs
	}
	if c.Marks {
		head["marks"] = true
	}
	if c.Seed != nil {
		head["seed"] = *c.Seed
	}
	return document.Encode(head)
}

// Event is one emission of a call: a record of the run's journal (its "t" and
// "iter" are in Doc as well).
type Event struct {
	Type string // update, artifact, child or iterations
	Iter int
	Doc  document.Object
}

func eventOf(doc document.Object) (Event, error) {
	kind := document.String(doc, "t")
	if kind == "" {
		return Event{}, violation("an emission says not what it is")
	}
	iter, _ := document.Int(doc, "iter")
	return Event{Type: kind, Iter: int(iter), Doc: doc}, nil
}

// Answer is how a call ended. Results are not in it: they have been events.
type Answer struct {
	State   run.State // Completed, Error or Aborted
	Failure *Failure  // set when State is Error
	Exit    *int      // the status that the code gave to sys.exit, nil if it did not call it
	Log     [2]int64  // with Call.Marks: size of standard output's file before and after
	// Own is, with Load.Marks, where in that file the code's own output is, without what
	// others wrote meanwhile: begin and end of each part. nil is Log.
	Own []int64
}

// Failure is a failure of user code, as data.
type Failure struct {
	Type      string   // the exception's class; "UserError" for what the runtime found wrong itself
	Message   string   // one sentence, or the texts "A, caused by: B" of the exception
	Traceback string   // as Python prints it, of the user's frames
	Names     []string // the handlers that were found where the wanted one was not
}

func (f *Failure) Error() string { return f.Message }

func failureOf(doc document.Object) *Failure {
	f := &Failure{
		Type:      document.String(doc, "type"),
		Message:   document.String(doc, "message"),
		Traceback: document.String(doc, "traceback"),
	}
	for _, name := range document.List(doc, "names") {
		if s, ok := name.(string); ok {
			f.Names = append(f.Names, s)
		}
	}
	f.Message = strings.ToValidUTF8(f.Message, "\uFFFD")
	return f
}

func answerOf(doc document.Object) (Answer, error) {
	answer := Answer{State: run.State(document.String(doc, "state"))}
	if failure := document.Map(doc, "failure"); failure != nil {
		answer.Failure = failureOf(failure)
	}
	if code, ok := document.Int(doc, "exit"); ok {
		status := int(code)
		answer.Exit = &status
	}
	for i, mark := range document.List(doc, "log") {
		if n, ok := document.ToInt(mark); ok && i < len(answer.Log) {
			answer.Log[i] = n
		}
	}
	if own, ok := doc["own"].([]any); ok {
		answer.Own = make([]int64, 0, len(own))
		for _, mark := range own {
			if n, ok := document.ToInt(mark); ok {
				answer.Own = append(answer.Own, n)
			}
		}
	}
	switch {
	case answer.State == "":
		return answer, violation("an answer has no state")
	case answer.State == run.Error && answer.Failure == nil:
		return answer, violation("an answer says error and not which")
	}
	return answer, nil
}
