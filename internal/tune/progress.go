package tune

import "github.com/millrace/millrace/internal/document"

// Progress is how far a task is. Numbers are of iterations.
type Progress struct {
	State   string   // of the task's run
	Names   []string // of its hyperparameters, in the order in which they were written
	Total   int      // as many as there will be, unless it stops before; 0 until it is known
	Ended   int
	Failed  int // of those that have ended
	Running int
	// Parallel is how many run at once.
	Parallel int
	Best     int             // the best iteration so far; 0 for none
	Results  document.Object // of the best iteration
	Stopped  Reason          // why there is no further iteration; "" while there are
	Changed  document.Object // what was changed of the options while it ran
}

// ProgressOf reads the state of a task as it is written down: {state, total,
// parallel, ended, failed, best, changed}.
func ProgressOf(doc document.Object) Progress {
	p := Progress{
		Running: len(document.Map(doc, "state", "pending")), Stopped: Reason(document.String(doc, "state", "stopped")), Changed: document.Map(doc, "changed"),
	}
	for name, field := range map[string]*int{"total": &p.Total, "parallel": &p.Parallel, "ended": &p.Ended, "failed": &p.Failed, "best": &p.Best} {
		n, _ := document.Int(doc, name)
		*field = int(n)
	}
	if p.Parallel > 0 { // others wait in front of a process
		p.Running = min(p.Running, p.Parallel)
	}
	return p
}

// Document is the progress as the API tells it.
func (p Progress) Document() document.Object {
	names := make([]any, len(p.Names))
	for i, name := range p.Names {
		names[i] = name
	}
	out := document.Object{
		"state": p.State, "names": names, "total": p.Total, "ended": p.Ended, "failed": p.Failed, "running": p.Running, "parallel": p.Parallel,
		"best": nil, "stopped": nil,
	}
	if p.Best > 0 {
		out["best"] = document.Object{"iter": p.Best, "results": p.Results}
	}
	if p.Stopped != "" {
		out["stopped"] = string(p.Stopped)
	}
	if len(p.Changed) > 0 {
		out["changed"] = p.Changed
	}
	return out
}

// ParseProgress reads what Document makes.
func ParseProgress(doc document.Object) Progress {
	p := Progress{
		State: document.String(doc, "state"), Stopped: Reason(document.String(doc, "stopped")), Changed: document.Map(doc, "changed"),
		Results: document.Map(doc, "best", "results"),
	}
	for _, name := range document.List(doc, "names") {
		if text, ok := name.(string); ok {
			p.Names = append(p.Names, text)
		}
	}
	for name, field := range map[string]*int{"total": &p.Total, "parallel": &p.Parallel, "ended": &p.Ended, "failed": &p.Failed, "running": &p.Running} {
		n, _ := document.Int(doc, name)
		*field = int(n)
	}
	best, _ := document.Int(doc, "best", "iter")
	p.Best = int(best)
	return p
}
