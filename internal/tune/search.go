package tune

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Reason says why a search gives no more points.
type Reason string

// The reasons; "" while it goes on.
const (
	Exhausted Reason = "exhausted"      // every point was given
	Condition Reason = "stop_condition" // it held for an iteration
	Errors    Reason = "max_errors"     // more iterations failed than that
	Unknown   Reason = "unknown_result" // a result that decides is none that iterations log: a failure of the task
)

// Trial is an iteration to execute.
type Trial struct {
	Iter  int // from 1 on
	Point Point
}

// Outcome is how an iteration ended.
type Outcome struct {
	Iter    int
	State   string // completed, error or aborted
	Results document.Object
}

// State is what a search continues from, together with the outcomes of the
// iterations that have ended. It is small whatever the size of the search, and is
// JSON.
type State struct {
	Next     int            `json:"next"`              // number of the next iteration
	Position int            `json:"position"`          // points that the strategy has given
	Pending  map[int]Params `json:"pending,omitempty"` // given and not ended: to be executed again
	Queued   []Params       `json:"queued,omitempty"`  // points to try next
	Stopped  Reason         `json:"stopped,omitempty"`
	Seed     uint64         `json:"seed"`
	Problem  string         `json:"problem,omitempty"` // first failure of the stop condition, or what Unknown is about
}

// Params are the values of a point. As JSON their numbers keep their literals.
type Params document.Object

// MarshalJSON implements json.Marshaler.
func (p Params) MarshalJSON() ([]byte, error) { return document.Encode(document.Object(p)), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Params) UnmarshalJSON(raw []byte) error {
	object, err := document.DecodeObject(raw)
	*p = object
	return err
}

// Search gives one iteration after the other and learns how they ended. Any number
// may be out at once. It is not safe for use by several goroutines.
type Search struct {
	options Options
	stop    *StopCondition
	points  generator
	names   []string

	next, position int
	pending        map[int]Point
	resume         []Trial // given before a restart and not ended
	queued         []Point
	stopped        Reason
	problem        string
	logged         Logged
	completed      int      // iterations
	missing        []string // names in the stop condition that no iteration has logged so far
	best           Best
	failed, ended  int
	seed           uint64
}

// New checks a task and returns its search. seed is used unless the options have
// one.
func New(o Options, v *Values, seed uint64) (*Search, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Seed != nil {
		seed = *o.Seed
	}
	stop, err := CompileStop(o.StopCondition)
	if err != nil {
		return nil, err
	}
	points, err := newGenerator(o, v, seed)
	if err != nil {
		return nil, err
	}
	s := &Search{options: o, points: points, names: v.Names, next: 1, pending: map[int]Point{}, seed: seed}
	s.watch(stop)
	return s, nil
}

// Total is how many iterations there are, with those that were queued.
func (s *Search) Total() int { return s.next - 1 + len(s.queued) + s.points.total() - s.position }

// Next returns the next iteration; false when there is none, for which Stopped
// says why: "" that an iteration that is out has to end before. After a restart
// those come first that were out then.
func (s *Search) Next() (Trial, bool) {
	var t Trial
	switch {
	case s.stopped != "" && s.stopped != Exhausted:
		return t, false
	case len(s.resume) > 0:
		t = s.resume[0]
		s.resume = s.resume[1:]
		return t, true
	case len(s.queued) > 0:
		t.Point = s.queued[0]
		s.queued = s.queued[1:]
	case s.position < s.points.total():
		known := s.known()
		if s.points.learns(s.position) && s.awaits(known) {
			return t, false
		}
		t.Point = s.points.at(s.position, known)
		s.position++
	default:
		s.stopped = Exhausted
		return t, false
	}
	t.Iter = s.next
	s.next++
	s.pending[t.Iter] = t.Point
	s.points.given(t.Iter, t.Point)
	return t, true
}

// known is the last iteration whose outcome the strategy may use for the next point.
// With a seed that depends on numbers alone, not on which iterations were quicker:
// the point is made from the outcomes of all but the last iterations, twice as many as
// are executed at once, so that one that takes its time does not stop the others.
func (s *Search) known() int {
	parallel := s.options.ParallelRuns
	switch {
	case s.options.Seed == nil:
		return s.next
	case parallel <= 1:
		return s.next - 1
	}
	return s.next - 2*parallel
}

// awaits reports whether an iteration up to known is out.
func (s *Search) awaits(known int) bool {
	if s.options.Seed == nil {
		return false
	}
	for iter := range s.pending {
		if iter <= known {
			return true
		}
	}
	return false
}

// Queue puts a point before those of the strategy.
func (s *Search) Queue(values document.Object) error {
	if s.stopped != "" && s.stopped != Exhausted {
		return fault.Conflict("the task has stopped (%s) and takes no more points", s.stopped)
	}
	if len(values) == 0 {
		return fault.Invalid("a point needs at least one value")
	}
	s.queued, s.stopped = append(s.queued, PointOf(values, s.names)), ""
	return nil
}

// Tell takes the end of an iteration into account. An iteration that is not out
// changes nothing.
func (s *Search) Tell(o Outcome) {
	_, ok := s.pending[o.Iter]
	if !ok {
		return
	}
	delete(s.pending, o.Iter)
	s.resume = slices.DeleteFunc(s.resume, func(t Trial) bool { return t.Iter == o.Iter })
	s.take(o)
	switch {
	case o.State == "error":
		if s.failed > cmp.Or(s.options.MaxErrors, DefaultMaxErrors) {
			s.stopped = Errors
		}
	case o.State == "completed" && s.stop != nil:
		holds, err := s.stop.Holds(o.Results)
		if err != nil && s.problem == "" {
			s.problem = err.Error()
		}
		if holds && (s.stopped == "" || s.stopped == Exhausted) {
			s.stopped = Condition
		}
	}
	s.check(o.State == "completed" && len(o.Results) > 0)
}

// watch makes stop the condition.
func (s *Search) watch(stop *StopCondition) {
	s.stop, s.missing = stop, nil
	if stop != nil {
		s.missing = s.logged.lacks(stop.Names())
	}
}

// check ends the search when what decides is no result: when an iteration has
// completed with results and none so far has logged a name of the stop condition, or
// when tpe has come to the end of its random points without a number to learn from.
// Before that, when all have ended without any result. telling is whether a completed
// iteration with results has just been taken into account.
func (s *Search) check(telling bool) {
	last := len(s.pending) == 0 && len(s.queued) == 0 && s.position == s.points.total() && s.completed > 0
	switch {
	case s.stopped != "" && s.stopped != Exhausted:
	case len(s.missing) > 0 && (telling || last):
		s.stopped, s.problem = Unknown, unknownText(s.options.StopCondition, s.missing, s.logged, s.names)
	case telling && s.options.Strategy == TPE && s.best.Iter == 0 && s.completed >= tpeStartup:
		s.stopped, s.problem = Unknown, fmt.Sprintf("selector %q: none of the first %d iterations that completed has a number as its result %q, without which tpe learns nothing; %s",
			s.options.Selector, s.completed, s.options.Selector.Result, s.logged)
	}
}

// take counts an outcome, and lets selector and strategy see it.
func (s *Search) take(o Outcome) {
	s.ended++
	s.logged.add(o.Results)
	s.missing = slices.DeleteFunc(s.missing, func(name string) bool { _, ok := o.Results[name]; return ok })
	loss := math.NaN()
	switch o.State {
	case "error":
		s.failed++
	case "completed":
		s.completed++
		s.best.consider(s.options.Selector, o.Iter, o.Results)
		if value, ok := s.options.Selector.Value(o.Results); ok {
			loss = s.options.Selector.Loss(value)
		}
	}
	s.points.observe(o.Iter, loss)
}

// Best returns the best iteration so far.
func (s *Search) Best() Best { return s.best }

// Failed and Ended count iterations.
func (s *Search) Failed() int { return s.failed }

// Ended counts the iterations that have ended, however.
func (s *Search) Ended() int { return s.ended }

// Out counts the iterations that were given and have not ended.
func (s *Search) Out() int { return len(s.pending) }

// Stopped says why there is no next iteration; "" while there is one.
func (s *Search) Stopped() Reason { return s.stopped }

// Logged are the names of the results that iterations have logged so far.
func (s *Search) Logged() Logged { return s.logged }

// Problem is the first failure to evaluate the stop condition, "" when there was
// none; of a search that has stopped for Unknown, what is unknown.
func (s *Search) Problem() string { return s.problem }

// State returns what Restore continues from.
func (s *Search) State() State {
	st := State{
		Next: s.next, Position: s.position, Stopped: s.stopped, Seed: s.seed, Problem: s.problem,
		Pending: map[int]Params{},
	}
	for iter, point := range s.pending {
		st.Pending[iter] = Params(point.Object())
	}
	for _, point := range s.queued {
		st.Queued = append(st.Queued, Params(point.Object()))
	}
	return st
}

// Document is the state as its JSON form is decoded.
func (st State) Document() document.Object {
	out := document.Object{"next": st.Next, "position": st.Position, "seed": st.Seed}
	if len(st.Pending) > 0 {
		pending := make(document.Object, len(st.Pending))
		for iter, params := range st.Pending {
			pending[strconv.Itoa(iter)] = document.Object(params)
		}
		out["pending"] = pending
	}
	if len(st.Queued) > 0 {
		queued := make([]any, len(st.Queued))
		for i, params := range st.Queued {
			queued[i] = document.Object(params)
		}
		out["queued"] = queued
	}
	if st.Stopped != "" {
		out["stopped"] = string(st.Stopped)
	}
	if st.Problem != "" {
		out["problem"] = st.Problem
	}
	return out
}

// Change makes a change of the options effective; its queue is left to Queue. A
// stop condition that does not compile changes nothing: whoever asked for it was
// told so by ParseSteering. One with a name that no iteration logs ends the search,
// see Unknown. A search that has stopped goes on only for more iterations.
func (s *Search) Change(change Steering) {
	if change.StopCondition != nil {
		if stop, err := CompileStop(*change.StopCondition); err == nil {
			s.options.StopCondition = *change.StopCondition
			s.watch(stop)
			s.check(s.completed > 0 && !s.logged.empty())
		}
	}
	if change.Parallel > 0 {
		s.options.ParallelRuns = change.Parallel
	}
	if change.MaxErrors > 0 {
		s.options.MaxErrors = change.MaxErrors
		if s.failed > change.MaxErrors && (s.stopped == "" || s.stopped == Exhausted) {
			s.stopped = Errors
		}
	}
	if change.MaxIterations > 0 {
		s.points.limit(max(change.MaxIterations, s.position))
		if s.stopped == Exhausted && s.position < s.points.total() {
			s.stopped = ""
		}
	}
}

// Restore brings a new search to where another of the same task was. ended are the
// outcomes of all iterations that have ended, in any order, with the parameters
// that params returns for them; iterations that the state has as pending but ended
// tells of are not executed again.
func (s *Search) Restore(st State, ended []Outcome, params func(iter int) document.Object) error {
	if s.next != 1 {
		return fault.Conflict("a search that has begun cannot be restored")
	}
	if st.Seed != s.seed {
		return fault.Invalid("the state is of a search with seed %d, not %d", st.Seed, s.seed)
	}
	if st.Next < 1 || st.Position < 0 || st.Position > s.points.total() {
		return fault.Invalid("the state (iteration %d, position %d) is not of this search, which has %d points", st.Next, st.Position, s.points.total())
	}
	s.next, s.position, s.problem = st.Next, st.Position, st.Problem
	for _, iter := range slices.Sorted(maps.Keys(st.Pending)) {
		s.pending[iter] = PointOf(document.Object(st.Pending[iter]), s.names)
		s.resume = append(s.resume, Trial{Iter: iter, Point: s.pending[iter]})
		s.points.given(iter, s.pending[iter])
	}
	for _, values := range st.Queued {
		s.queued = append(s.queued, PointOf(document.Object(values), s.names))
	}
	ordered := slices.Clone(ended)
	slices.SortFunc(ordered, func(a, b Outcome) int { return cmp.Compare(a.Iter, b.Iter) })
	ordered = slices.CompactFunc(ordered, func(a, b Outcome) bool { return a.Iter == b.Iter })
	if n := len(ordered); n > 0 && ordered[n-1].Iter >= s.next {
		return fault.Invalid("iteration %d has ended, but the state knows of %d: it is older than the iteration", ordered[n-1].Iter, s.next-1)
	}
	for _, o := range ordered {
		if _, out := s.pending[o.Iter]; out {
			s.Tell(o)
			continue
		}
		s.points.given(o.Iter, PointOf(params(o.Iter), s.names))
		s.take(o)
	}
	// That the strategy has no further point is found out again: those that were out
	// then come before.
	if st.Stopped != "" && st.Stopped != Exhausted {
		s.stopped = st.Stopped
	}
	return nil
}
