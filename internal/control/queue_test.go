package control

import (
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func waiting(id, project string, minute int) store.Execution {
	return store.Execution{ID: id, Project: project, Phase: "queued", Created: noon.Add(time.Duration(minute) * time.Minute)}
}

func TestProjectsTakeTurns(t *testing.T) {
	t.Parallel()
	running := waiting("r", "busy", 0)
	running.Phase = "running"
	later := waiting("later", "quiet", 0)
	later.NotBefore = noon.Add(time.Hour)
	for name, c := range map[string]struct {
		active []store.Execution
		live   map[string]int
		want   []string
	}{
		"one project is first come, first served":   {[]store.Execution{waiting("b", "p", 2), waiting("a", "p", 1)}, nil, []string{"a", "b"}},
		"a flood of one does not hold up the other": {[]store.Execution{waiting("a1", "a", 1), waiting("a2", "a", 2), waiting("a3", "a", 3), waiting("b1", "b", 9)}, nil, []string{"a1", "b1", "a2", "a3"}},
		"who has live ones waits":                   {[]store.Execution{running, waiting("busy1", "busy", 1), waiting("quiet1", "quiet", 5), waiting("quiet2", "quiet", 6)}, map[string]int{"busy": 1}, []string{"quiet1", "busy1", "quiet2"}},
		"a retry waits for its time":                {[]store.Execution{later, waiting("a", "quiet", 1)}, nil, []string{"a"}},
		"nothing waits":                             {[]store.Execution{running}, map[string]int{"busy": 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := map[string]int{}
			for project, n := range c.live {
				live[project] = n
			}
			var got []string
			for _, e := range queue(c.active, live, noon.Add(30*time.Minute)) {
				got = append(got, e.ID)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRetryDoublesItsDelay(t *testing.T) {
	t.Parallel()
	c := New(Options{})
	plan := document.Object{"retry": document.Object{"count": 3, "base_delay_ms": 1000}}
	failed := spool.Outcome{State: "error"}
	for _, want := range []struct {
		attempt int
		again   bool
		delay   time.Duration
	}{{1, true, time.Second}, {2, true, 2 * time.Second}, {3, true, 4 * time.Second}, {4, false, 0}} {
		again, delay := c.retry(store.Execution{Attempt: want.attempt, Plan: plan}, failed)
		if again != want.again || delay != want.delay {
			t.Errorf("attempt %d: %v after %v", want.attempt, again, delay)
		}
	}
	for _, state := range []string{"completed", "aborted"} {
		if again, _ := c.retry(store.Execution{Attempt: 1, Plan: plan}, spool.Outcome{State: state}); again {
			t.Errorf("%s is tried again", state)
		}
	}
}

func TestFinalStatesStay(t *testing.T) {
	t.Parallel()
	for _, final := range []string{"completed", "error", "aborted"} {
		for _, outcome := range []string{"completed", "error", "aborted"} {
			doc := document.Object{"status": document.Object{"state": final}}
			conclude(doc, spool.Outcome{State: outcome, Error: "late"}, noon)
			if got := string(document.Encode(doc)); got != `{"status":{"state":"`+final+`"}}` {
				t.Errorf("%s after %s: %s", outcome, final, got)
			}
		}
	}
	doc := document.Object{"status": document.Object{"state": "aborting"}}
	conclude(doc, spool.Outcome{State: "completed"}, noon)
	if got := document.String(doc, "status", "state"); got != "aborted" {
		t.Errorf("a run that is being aborted ended as %s", got)
	}
}

func TestARunnerThatToldNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, outcome := range []document.Object{nil, {}} {
		if got := told(store.Execution{Outcome: outcome}); got.Reason != "lost" || got.State != "error" {
			t.Errorf("%v: %+v", outcome, got)
		}
	}
	if got := told(store.Execution{Outcome: document.Object{"state": "completed"}}); got.State != "completed" {
		t.Errorf("%+v", got)
	}
}
