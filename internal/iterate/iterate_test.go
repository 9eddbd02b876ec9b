package iterate_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/iterate"
	"github.com/millrace/millrace/internal/tune"
)

// behaviour is what the code of an iteration does. It ends early when interrupted
// is closed.
type behaviour func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending

// fakeHost starts processes that execute a behaviour in a goroutine, in order, as
// workers do.
type fakeHost struct {
	act    behaviour
	single bool
	refuse error

	mu      sync.Mutex
	started int
	living  int
	most    int
	running int // iterations
	peak    int
}

func (h *fakeHost) Start(context.Context) (iterate.Process, error) {
	if h.refuse != nil {
		return nil, h.refuse
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.started++
	h.living++
	h.most = max(h.most, h.living)
	p := &fakeProcess{host: h, calls: make(chan fakeCall, 100), over: make(chan struct{}), kill: make(chan struct{})}
	go p.work()
	return p, nil
}

type fakeCall struct {
	iterate.Call
	observe func(string, document.Object)
	ended   func(iterate.Ending)
}

type fakeProcess struct {
	host  *fakeHost
	calls chan fakeCall
	over  chan struct{}
	kill  chan struct{}
	once  sync.Once
	shut  sync.Once

	mu          sync.Mutex
	current     int
	interrupted chan struct{}
	asked       map[int]bool
}

func (p *fakeProcess) work() {
	defer func() {
		p.host.mu.Lock()
		p.host.living--
		p.host.mu.Unlock()
		close(p.over)
	}()
	dead := false
	for call := range p.calls {
		if dead {
			call.ended(iterate.Ending{Skipped: true})
			continue
		}
		p.mu.Lock()
		p.current, p.interrupted = call.Iter, make(chan struct{})
		asked := p.asked[call.Iter]
		p.mu.Unlock()
		if asked {
			call.ended(iterate.Ending{State: "aborted"})
			continue
		}
		p.host.mu.Lock()
		p.host.running++
		p.host.peak = max(p.host.peak, p.host.running)
		p.host.mu.Unlock()
		e := p.host.act(p, call.Call, call.observe)
		p.host.mu.Lock()
		p.host.running--
		p.host.mu.Unlock()
		dead = e.Died
		call.ended(e)
	}
}

func (p *fakeProcess) Begin(call iterate.Call, observe func(string, document.Object), ended func(iterate.Ending)) {
	p.calls <- fakeCall{call, observe, ended}
}

func (p *fakeProcess) Single() bool { return p.host.single }

func (p *fakeProcess) Interrupt(iters ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = map[int]bool{}
	}
	for _, iter := range iters {
		if !p.asked[iter] && iter == p.current {
			close(p.interrupted)
		}
		p.asked[iter] = true
	}
}

func (p *fakeProcess) Kill() { p.once.Do(func() { close(p.kill) }) }

func (p *fakeProcess) Close(ctx context.Context) {
	p.shut.Do(func() { close(p.calls) })
	select {
	case <-p.over:
	case <-ctx.Done():
		p.Kill()
		<-p.over
	}
}

// asks reports whether the code is asked to end.
func (p *fakeProcess) asks() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[p.current]
}

// wait stands for code that takes long and gives way when it is interrupted.
func (p *fakeProcess) wait(d time.Duration) iterate.Ending {
	p.mu.Lock()
	interrupted := p.interrupted
	p.mu.Unlock()
	select {
	case <-time.After(d):
		return iterate.Ending{State: "completed"}
	case <-interrupted:
		return iterate.Ending{State: "aborted"}
	case <-p.kill:
		return iterate.Ending{Died: true, Error: "the process was killed"}
	}
}

// journal keeps what was written, and hands out steering.
type journal struct {
	mu      sync.Mutex
	records []iterate.Record
	changes []tune.Steering
	mark    int64
	fail    error
}

func (j *journal) Append(records []iterate.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range records {
		j.records = append(j.records, iterate.Record{Type: r.Type, Body: document.Clone(r.Body)})
	}
	return j.fail
}

func (j *journal) Steering() ([]tune.Steering, int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	changes := j.changes
	j.changes = nil
	return changes, j.mark, nil
}

func (j *journal) steer(change tune.Steering) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changes = append(j.changes, change)
	j.mark++
}

// children are the last records of the iterations.
func (j *journal) children() map[int]document.Object {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := map[int]document.Object{}
	for _, r := range j.records {
		if r.Type == "child" {
			iter, _ := document.Int(r.Body, "iter")
			out[int(iter)] = r.Body
		}
	}
	return out
}

// state is the last state of the search, as it was written.
func (j *journal) state(t *testing.T) (tune.State, []tune.Outcome, map[int]document.Object) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	var st tune.State
	var ended []tune.Outcome
	parameters := map[int]document.Object{}
	for _, r := range j.records {
		switch r.Type {
		case "search":
			st = stateOf(t, document.Map(r.Body, "state"))
		case "child":
			iter, _ := document.Int(r.Body, "iter")
			if state := document.String(r.Body, "state"); state != "running" {
				ended = append(ended, tune.Outcome{Iter: int(iter), State: state, Results: document.Map(r.Body, "results")})
				parameters[int(iter)] = document.Map(r.Body, "parameters")
			}
		}
	}
	return st, ended, parameters
}

// search makes the search of a task over x (and y).
func search(t *testing.T, o tune.Options, values string) *tune.Search {
	t.Helper()
	parsed, err := tune.ParseValues([]byte(values), "hyperparams")
	if err != nil {
		t.Fatal(err)
	}
	s, err := tune.New(o, parsed, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func upTo(n int) string {
	out := `{"x": [`
	for i := range n {
		if i > 0 {
			out += ","
		}
		out += fmt.Sprint(i)
	}
	return out + "]}"
}

func execute(t *testing.T, ctx context.Context, o tune.Options, values string, h *fakeHost, j *journal) (iterate.Result, error) {
	t.Helper()
	return iterate.Run(ctx, iterate.Task{Search: search(t, o, values), Options: o, Pruner: pruner(o), Grace: 50 * time.Millisecond, Host: h, Journal: j})
}

func pruner(o tune.Options) *tune.Pruner {
	if o.EarlyStopping == nil {
		return nil
	}
	return tune.NewPruner(*o.EarlyStopping)
}

func number(call iterate.Call, name string) float64 {
	value, _ := document.ToFloat(call.Parameters[name])
	return value
}

// square gives the result that most tests select by.
func square(_ *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
	x := number(call, "x")
	observe("update", document.Object{"t": "update", "results": document.Object{"f": x * x}})
	return iterate.Ending{State: "completed", Log: [2]int64{int64(call.Iter), int64(call.Iter + 1)}}
}

func TestEveryIterationIsExecutedOnce(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{0, 1, 2, 7} {
		h, j := &fakeHost{act: square}, &journal{}
		o := tune.Options{Strategy: tune.Grid, Selector: tune.Selector{Result: "f"}, ParallelRuns: parallel}
		result, err := execute(t, t.Context(), o, upTo(500), h, j)
		if err != nil || result.Ended != 500 || result.Failed != 0 || result.Reason != tune.Exhausted || result.Best != (tune.Best{Iter: 500, Value: 499 * 499}) {
			t.Errorf("%d at once: %+v, error %v", parallel, result, err)
		}
		children := j.children()
		for iter := 1; iter <= 500; iter++ {
			body := children[iter]
			if state := document.String(body, "state"); state != "completed" {
				t.Fatalf("%d at once: the iteration %d is %q", parallel, iter, state)
			}
			if x, _ := document.ToFloat(document.Map(body, "parameters")["x"]); x != float64(iter-1) {
				t.Errorf("the iteration %d had x = %v", iter, x)
			}
			if document.Map(body, "results")["f"] == nil || len(document.List(body, "log")) != 2 {
				t.Errorf("the iteration %d was written as %v", iter, body)
			}
		}
		if h.started != max(parallel, 1) || h.peak > max(parallel, 1) || h.living != 0 {
			t.Errorf("%d at once: %d processes, at most %d iterations at once, %d processes left", parallel, h.started, h.peak, h.living)
		}
	}
}

func TestTheStateIsWrittenBeforeWhatItNamesBegins(t *testing.T) {
	t.Parallel()
	j := &journal{}
	var early []int
	var mu sync.Mutex
	h := &fakeHost{act: func(_ *fakeProcess, call iterate.Call, _ func(string, document.Object)) iterate.Ending {
		st, _, _ := j.state(t)
		mu.Lock()
		defer mu.Unlock()
		if call.Iter >= st.Next {
			early = append(early, call.Iter)
		}
		return iterate.Ending{State: "completed"}
	}}
	if _, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid, ParallelRuns: 3}, upTo(200), h, j); err != nil {
		t.Fatal(err)
	}
	if len(early) > 0 {
		t.Errorf("the iterations %v began before the journal knew of them", early)
	}
}

func TestADeathCostsOneIteration(t *testing.T) {
	t.Parallel()
	h, j := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
		if call.Iter%50 == 7 {
			return iterate.Ending{Died: true, Error: "the process exited with status 3"}
		}
		return square(p, call, observe)
	}}, &journal{}
	result, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid, ParallelRuns: 2, MaxErrors: 100}, upTo(300), h, j)
	if err != nil || result.Failed != 6 || result.Ended != 300 {
		t.Errorf("%+v, error %v", result, err)
	}
	for iter, body := range j.children() {
		want := "completed"
		if iter%50 == 7 {
			want = "error"
		}
		if got := document.String(body, "state"); got != want {
			t.Errorf("the iteration %d is %q, not %q", iter, got, want)
		}
	}
	if h.started != 8 || h.living != 0 {
		t.Errorf("%d processes were started, %d are left", h.started, h.living)
	}
}

func TestAProcessForEachIteration(t *testing.T) {
	t.Parallel()
	h, j := &fakeHost{act: square, single: true}, &journal{}
	result, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid, ParallelRuns: 3}, upTo(20), h, j)
	if err != nil || result.Ended != 20 || h.started < 20 || h.started > 22 || h.living != 0 { // two may have been on their way when the last began
		t.Errorf("%+v, error %v, %d processes of which %d are left", result, err, h.started, h.living)
	}
}

func TestTooManyErrorsEndTheTask(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		h, j := &fakeHost{act: func(_ *fakeProcess, call iterate.Call, _ func(string, document.Object)) iterate.Ending {
			return iterate.Ending{State: "error", Error: fmt.Sprintf("no %d", call.Iter)}
		}}, &journal{}
		result, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid, ParallelRuns: parallel, MaxErrors: 5}, upTo(1000), h, j)
		if err != nil || result.Reason != tune.Errors || result.Failed < 6 || result.Failed > 5+parallel {
			t.Errorf("%d at once: %+v, error %v", parallel, result, err)
		}
		if text := document.String(j.children()[2], "error"); text != "no 2" {
			t.Errorf("the error of the second is %q", text)
		}
	}
}

func TestAStopConditionEndsATaskAtOnce(t *testing.T) {
	t.Parallel()
	h, j := &fakeHost{act: square}, &journal{}
	result, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid, StopCondition: "f > 100", ParallelRuns: 1}, upTo(1000), h, j)
	if err != nil || result.Reason != tune.Condition || result.Ended != 12 || len(j.children()) != 12 {
		t.Errorf("%+v, error %v, %d iterations", result, err, len(j.children()))
	}
}

// A name in the stop condition that no iteration logs ends the task at once, and what
// runs is interrupted and left to nobody.
func TestAnUnknownNameEndsATaskAtOnce(t *testing.T) {
	t.Parallel()
	h, j := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
		if call.Iter == 2 {
			return square(p, call, observe)
		}
		return p.wait(time.Minute)
	}}, &journal{}
	o := tune.Options{StopCondition: "acuracy > 0.9", ParallelRuns: 3}
	result, err := execute(t, t.Context(), o, upTo(20), h, j)
	if err != nil || result.Ended != 1 || result.Reason != tune.Unknown || !strings.Contains(result.Problem, `"acuracy"; results are f`) {
		t.Errorf("%+v, error %v", result, err)
	}
	st, ended, _ := j.state(t)
	if len(ended) != 1 || st.Stopped != tune.Unknown || st.Next > 5 || h.living != 0 {
		t.Errorf("%d iterations are written as ended, state %+v, %d processes left", len(ended), st, h.living)
	}
}

func TestTimeIsUp(t *testing.T) {
	t.Parallel()
	stubborn := make(chan struct{})
	h, j := &fakeHost{act: func(p *fakeProcess, call iterate.Call, _ func(string, document.Object)) iterate.Ending {
		switch call.Iter {
		case 2:
			return p.wait(time.Minute)
		case 3: // does not give way
			<-p.kill
			close(stubborn)
			return iterate.Ending{Died: true, Error: "the process was killed"}
		}
		return iterate.Ending{State: "completed"}
	}}, &journal{}
	o := tune.Options{Strategy: tune.Grid, Timeout: 100 * time.Millisecond, MaxErrors: 10}
	result, err := execute(t, t.Context(), o, upTo(5), h, j)
	if err != nil || result.Failed != 2 || result.Ended != 5 {
		t.Errorf("%+v, error %v", result, err)
	}
	<-stubborn
	for _, iter := range []int{2, 3} {
		if body := j.children()[iter]; document.String(body, "reason") != "timeout" || document.String(body, "state") != "error" {
			t.Errorf("the iteration %d is %v", iter, body)
		}
	}
}

func TestIterationsThatDoBadlyEndEarly(t *testing.T) {
	t.Parallel()
	h, j := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
		for step := range 9 {
			observe("update", document.Object{"results": document.Object{"loss": number(call, "x") + 1/float64(step+1)}})
			if e := p.wait(time.Millisecond); e.State != "completed" {
				return e
			}
		}
		return iterate.Ending{State: "completed"}
	}}, &journal{}
	o := tune.Options{
		Strategy: tune.Grid, Selector: tune.Selector{Result: "loss", Minimise: true},
		EarlyStopping: &tune.EarlyStopping{Rule: "median", Metric: tune.Selector{Result: "loss", Minimise: true}, Min: 2, Others: 3},
	}
	result, err := execute(t, t.Context(), o, upTo(20), h, j)
	if err != nil || result.Failed != 0 || result.Ended != 20 || result.Best.Iter != 1 {
		t.Errorf("%+v, error %v", result, err)
	}
	early := 0
	for _, body := range j.children() {
		if document.String(body, "reason") == "early_stopping" && document.String(body, "state") == "aborted" {
			early++
		}
	}
	if early < 10 || early > 17 {
		t.Errorf("%d of 20 iterations ended early", early)
	}
}

// A task whose iterations end early decides after an interruption as it would have
// without: nothing that was reported before is forgotten.
func TestEarlyStoppingGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	for _, rule := range []tune.EarlyStopping{
		{Rule: "asha", Min: 1, Reduction: 3}, {Rule: "median", Min: 2, Others: 4, Against: tune.Averages}, {Rule: "median", Min: 1, Others: 3, Against: tune.AtStep},
	} {
		seed := uint64(11)
		rule.Metric = tune.Selector{Result: "loss", Minimise: true}
		o := tune.Options{Strategy: tune.Random, MaxIterations: 80, Selector: rule.Metric, Seed: &seed, EarlyStopping: &rule}
		values := `{"x": {"low": 0, "high": 10}, "speed": {"low": 0.2, "high": 2}}`
		// steps is how far each iteration came, which is what was decided.
		attempt := func(ctx context.Context, s *tune.Search, p *tune.Pruner, j *journal, steps map[int]int, at int, cut func()) error {
			h := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
				for step := 1; step <= 27; step++ {
					if call.Iter == at && step == 1 {
						cut()
						return p.wait(time.Minute)
					}
					steps[call.Iter] = step
					observe("update", document.Object{"results": document.Object{"loss": number(call, "x") + 9*math.Pow(float64(step), -number(call, "speed"))}})
					if p.asks() {
						return iterate.Ending{State: "aborted"}
					}
				}
				return iterate.Ending{State: "completed"}
			}}
			_, err := iterate.Run(ctx, iterate.Task{Search: s, Options: o, Pruner: p, Grace: 50 * time.Millisecond, Host: h, Journal: j})
			return err
		}
		want, whole := map[int]int{}, &journal{}
		if err := attempt(t.Context(), search(t, o, values), pruner(o), whole, want, 0, nil); err != nil {
			t.Fatal(err)
		}
		got, j := map[int]int{}, &journal{}
		for at := 9; ; at += 13 {
			ctx, cancel := context.WithCancel(t.Context())
			s, p := search(t, o, values), pruner(o)
			st, ended, parameters := j.state(t)
			if st.Next > 0 {
				if err := s.Restore(st, ended, func(iter int) document.Object { return parameters[iter] }); err != nil {
					t.Fatal(err)
				}
			}
			for _, body := range j.children() {
				p.Restore(document.List(body, "reports"))
			}
			err := attempt(ctx, s, p, j, got, at, cancel)
			cancel()
			if err == nil {
				break
			}
		}
		full := 0
		for iter, steps := range want {
			if got[iter] != steps {
				t.Errorf("%s: the iteration %d came to step %d, without interruption to %d", rule.Rule, iter, got[iter], steps)
			}
			if steps == 27 {
				full++
			}
		}
		if full == 0 || full > 60 || len(got) != 80 {
			t.Errorf("%s: %d of %d iterations went to the end, which decides nothing", rule.Rule, full, len(got))
		}
	}
}

// A task that is interrupted and continued executes what the uninterrupted one
// does, and nothing that had ended again.
func TestATaskContinuesWhereItWas(t *testing.T) {
	t.Parallel()
	for _, strategy := range []tune.Strategy{tune.Grid, tune.Random, tune.TPE} {
		seed := uint64(5)
		o := tune.Options{Strategy: strategy, Selector: tune.Selector{Result: "f", Minimise: true}, Seed: &seed}
		values := `{"x": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], "y": [1, 2, 3, 4]}`
		if strategy != tune.Grid {
			o.MaxIterations = 60
		}
		whole := &journal{}
		want, err := execute(t, t.Context(), o, values, &fakeHost{act: square}, whole)
		if err != nil {
			t.Fatal(err)
		}
		j := &journal{}
		executed := map[int]int{}
		var mu sync.Mutex
		var result iterate.Result
		for attempt := range 10 {
			ctx, cancel := context.WithCancelCause(t.Context())
			h := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
				if call.Iter == 7*(attempt+1) {
					cancel(errors.New("enough"))
					return p.wait(time.Minute)
				}
				mu.Lock()
				executed[call.Iter]++
				mu.Unlock()
				return square(p, call, observe)
			}}
			s := search(t, o, values)
			if attempt > 0 {
				st, ended, parameters := j.state(t)
				if err := s.Restore(st, ended, func(iter int) document.Object { return parameters[iter] }); err != nil {
					t.Fatal(err)
				}
			}
			result, err = iterate.Run(ctx, iterate.Task{Search: s, Options: o, Grace: 50 * time.Millisecond, Host: h, Journal: j})
			cancel(nil)
			if err == nil {
				break
			}
		}
		if err != nil || result != want {
			t.Errorf("%s: ended as %+v, error %v; without interruption as %+v", strategy, result, err, want)
		}
		mine, theirs := j.children(), whole.children()
		for iter, body := range theirs {
			got := document.Map(mine[iter], "parameters")
			if fmt.Sprint(got) != fmt.Sprint(document.Map(body, "parameters")) || executed[iter] != 1 {
				t.Errorf("%s: the iteration %d had %v, not %v, and was executed %d times", strategy, iter, got, document.Map(body, "parameters"), executed[iter])
			}
		}
		if len(mine) != len(theirs) {
			t.Errorf("%s: %d iterations, not %d", strategy, len(mine), len(theirs))
		}
	}
}

// Nor does one forget iterations that ran when there was no further one to begin.
func TestTheLastIterationsAreContinued(t *testing.T) {
	t.Parallel()
	o := tune.Options{Selector: tune.Selector{Result: "f"}}
	j := &journal{}
	ctx, cancel := context.WithCancelCause(t.Context())
	h := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
		if call.Iter < 4 {
			return square(p, call, observe)
		}
		time.AfterFunc(200*time.Millisecond, func() { cancel(errors.New("enough")) })
		return p.wait(time.Minute)
	}}
	if result, err := execute(t, ctx, o, upTo(6), h, j); err == nil || result.Ended != 3 || result.Reason != tune.Exhausted {
		t.Fatalf("%+v, error %v", result, err)
	}
	s := search(t, o, upTo(6))
	st, ended, parameters := j.state(t)
	if err := s.Restore(st, ended, func(iter int) document.Object { return parameters[iter] }); err != nil {
		t.Fatal(err)
	}
	result, err := iterate.Run(t.Context(), iterate.Task{Search: s, Options: o, Grace: time.Second, Host: &fakeHost{act: square}, Journal: j})
	if err != nil || result.Ended != 6 || result.Best.Iter != 6 || result.Reason != tune.Exhausted {
		t.Errorf("%+v, error %v", result, err)
	}
}

func TestSteering(t *testing.T) {
	t.Parallel()
	j := &journal{}
	release := make(chan struct{})
	h := &fakeHost{act: func(p *fakeProcess, call iterate.Call, observe func(string, document.Object)) iterate.Ending {
		if call.Iter == 1 {
			<-release
		}
		return square(p, call, observe)
	}}
	seed := uint64(3)
	o := tune.Options{Strategy: tune.Random, MaxIterations: 5, Seed: &seed, Selector: tune.Selector{Result: "f"}}
	stop := "f == 1000000"
	j.steer(tune.Steering{Parallel: 3, MaxIterations: 40, StopCondition: &stop, Queue: []document.Object{{"x": 77}}})
	go func() {
		time.Sleep(150 * time.Millisecond) // so that the loop looks at least once
		j.steer(tune.Steering{Queue: []document.Object{{"x": 1000}}})
		close(release)
	}()
	result, err := execute(t, t.Context(), o, upTo(10), h, j)
	if err != nil || result.Reason != tune.Condition || result.Best.Value != 1_000_000 {
		t.Errorf("%+v, error %v", result, err)
	}
	if h.most != 3 {
		t.Errorf("%d processes at once", h.most)
	}
	var xs []float64
	for _, body := range j.children() {
		x, _ := document.ToFloat(document.Map(body, "parameters")["x"])
		xs = append(xs, x)
	}
	if !slices.Contains(xs, 77) || !slices.Contains(xs, 1000) {
		t.Errorf("the points that were queued are not among %v", xs)
	}
	if _, _, err := j.Steering(); err != nil {
		t.Fatal(err)
	}
}

func TestFailuresEndTheTask(t *testing.T) {
	t.Parallel()
	refused := errors.New("no module named nothing")
	if _, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid}, upTo(5), &fakeHost{refuse: refused}, &journal{}); !errors.Is(err, refused) {
		t.Errorf("code that cannot be loaded: %v", err)
	}
	full := errors.New("no space left on device")
	h := &fakeHost{act: square}
	if _, err := execute(t, t.Context(), tune.Options{Strategy: tune.Grid}, upTo(5), h, &journal{fail: full}); !errors.Is(err, full) {
		t.Errorf("a journal that cannot be written: %v", err)
	}
	if h.living != 0 {
		t.Errorf("%d processes are left", h.living)
	}
}

func TestSeedsOfIterations(t *testing.T) {
	t.Parallel()
	seen := map[uint64]int{}
	for iter := 1; iter <= 100_000; iter++ {
		seed := iterate.Seed(42, iter)
		if seed > 1<<32-1 {
			t.Fatalf("the seed of iteration %d does not fit 32 bits", iter)
		}
		seen[seed]++
	}
	if len(seen) < 99_990 { // 1.2 pairs are to be expected
		t.Errorf("100,000 iterations have %d different seeds", len(seen))
	}
	if iterate.Seed(1, 1) == iterate.Seed(2, 1) {
		t.Error("tasks share the seeds of their iterations")
	}
}
