// Command store measures the store by itself: durable writes of runs from many
// goroutines beside a bare file that is appended to with the same grouping, and
// first pages of lists over many runs.
//
//	go run ./benchmarks/store [-runs 1000000] [-writers 64] [-seconds 5] [-database-url postgres://…]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

func main() {
	b := bench{out: os.Stdout}
	flag.IntVar(&b.runs, "runs", 1_000_000, "how many runs the lists go over")
	flag.IntVar(&b.writers, "writers", 64, "how many goroutines write at once")
	flag.Float64Var(&b.seconds, "seconds", 5, "how long each measurement of writes takes")
	flag.StringVar(&b.url, "database-url", "", "an empty PostgreSQL database instead of SQLite")
	flag.StringVar(&b.profile, "profile", "", "a file for the CPU profile of the writes")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

type bench struct {
	out           io.Writer
	runs, writers int
	seconds       float64
	url, profile  string
	dir           string
	store         *store.Store
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "store-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.store, err = b.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if err := b.writes(ctx); err != nil {
		return err
	}
	if b.runs == 0 {
		return nil
	}
	if err := b.fill(ctx); err != nil {
		return err
	}
	if err := b.lists(ctx); err != nil {
		return err
	}
	if err := b.reopen(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nwith %d runs stored:\n", b.runs)
	return b.writes(ctx)
}

func (b *bench) open(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, store.Options{Path: filepath.Join(b.dir, "millrace.db"), DatabaseURL: b.url})
}

// writes measures appends, stores and updates.
func (b *bench) writes(ctx context.Context) (err error) {
	file, err := newAppender(filepath.Join(b.dir, "append"))
	if err != nil {
		return err
	}
	record := document.Encode(runDoc("", 0, time.Now()))
	bare, err := b.measure("append to a file, grouped", 0, func(int, int) error { return file.append(record) })
	if err := errors.Join(err, file.close()); err != nil {
		return err
	}
	if b.profile != "" {
		profile, err := os.Create(b.profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(profile); err != nil {
			return errors.Join(err, profile.Close())
		}
		defer func() { pprof.StopCPUProfile(); err = errors.Join(err, profile.Close()) }()
	}
	tag := fmt.Sprint(time.Now().UnixNano())
	key := func(writer, n int) run.Key {
		return run.Key{Project: "default", UID: fmt.Sprintf("%s-%d-%d", tag, writer, n)}
	}
	stored := make([]int, b.writers)
	if _, err := b.measure("store a run", bare, func(writer, n int) error {
		stored[writer] = n + 1
		_, err := b.store.RunPut(ctx, key(writer, n), runDoc("", n, time.Now()))
		return err
	}); err != nil {
		return err
	}
	_, err = b.measure("update a run", bare, func(writer, n int) error {
		_, err := b.store.RunUpdate(ctx, key(writer, n%stored[writer]), document.Object{
			"status.state": "running", "status.results": document.Object{"accuracy": 0.91, "n": n}, "metadata.labels": labels("", n%stored[writer]),
		})
		return err
	})
	return err
}

// measure calls op from all writers for a while and prints how often it
// succeeded in a second and how long one took.
func (b *bench) measure(name string, bare float64, op func(writer, n int) error) (float64, error) {
	var wg sync.WaitGroup
	errs := make([]error, b.writers)
	times := make([][]time.Duration, b.writers)
	begin := time.Now()
	end := begin.Add(time.Duration(b.seconds * float64(time.Second)))
	for writer := range b.writers {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				at := time.Now()
				if errs[writer] = op(writer, n); errs[writer] != nil {
					return
				}
				times[writer] = append(times[writer], time.Since(at))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	all := slices.Concat(times...)
	slices.Sort(all)
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	rate := float64(len(all)) / took.Seconds()
	ratio := ""
	if bare > 0 {
		ratio = fmt.Sprintf("  %.2f of the bare file", rate/bare)
	}
	fmt.Fprintf(b.out, "%-28s %9.0f/s  p50 %8s  p99 %8s%s\n", name, rate, round(all[len(all)/2]), round(all[len(all)*99/100]), ratio)
	return rate, nil
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// fill stores the runs that lists go over: 200 names, one run in a thousand live
// and one in five thousand with a label of its own.
func (b *bench) fill(ctx context.Context) error {
	if _, err := b.store.ProjectPut(ctx, "big", document.Object{}); err != nil {
		return err
	}
	begin := time.Now()
	start := begin.Add(-6 * 24 * time.Hour)
	const group = 2000
	for from := 0; from < b.runs; from += group {
		err := b.store.Tx(ctx, func(tx *store.Tx) error {
			for i := from; i < min(from+group, b.runs); i++ {
				key := run.Key{Project: "big", UID: fmt.Sprintf("%016x%016x", rand.Uint64(), i)}
				if _, err := tx.RunPut(ctx, key, runDoc("completed", i, start.Add(time.Duration(i)*500*time.Millisecond))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(b.out, "\n%d runs stored in %s\n", b.runs, time.Since(begin).Round(time.Second))
	return nil
}

func labels(state string, i int) document.Object {
	out := document.Object{"kind": "job", "owner": fmt.Sprint("user", i%20), "host": fmt.Sprintf("host-%d", i%500), "mlrun/client_version": "1.7.2"}
	if state != "" && i%5000 == 7 {
		out["rare"] = "yes"
	}
	return out
}

func runDoc(state string, i int, start time.Time) document.Object {
	if state != "" && i%1000 == 3 {
		state = "running"
	}
	status := document.Object{"results": document.Object{"accuracy": 0.5, "loss": 0.25}, "start_time": document.Time(start)}
	if state != "" {
		status["state"] = state
	}
	return document.Object{
		"kind":     "run",
		"metadata": document.Object{"name": fmt.Sprintf("trainer-%d-train", i%200), "labels": labels(state, i), "annotations": document.Object{}},
		"spec": document.Object{
			"function": "default/trainer@2f667eb0246065cee182356054db2c22f6237aaf", "handler": "train", "log_level": "info",
			"parameters": document.Object{"lr": 0.1, "epochs": i, "batch": 64}, "inputs": document.Object{"data": "store://datasets/demo/raw"},
			"output_path": "/data/artifacts/demo", "state_thresholds": document.Object{"executing": "24h", "pending_scheduled": "1h"},
		},
		"status": status,
	}
}

// lists measures first pages of 20.
func (b *bench) lists(ctx context.Context) error {
	page := store.Page{Size: 20}
	label := func(key, value string) []store.LabelFilter {
		return []store.LabelFilter{{Key: key, Value: value, HasValue: value != ""}}
	}
	week := time.Now().Add(-7 * 24 * time.Hour)
	for _, list := range []struct {
		name   string
		filter store.RunFilter
	}{
		{"newest", store.RunFilter{Project: "big"}},
		{"newest with children", store.RunFilter{Project: "big", WithChildren: true}},
		{"newest of all projects", store.RunFilter{Project: "*"}},
		{"page 1000", store.RunFilter{Project: "big", Page: store.Page{Offset: 20000, Size: 20}}},
		{"a name", store.RunFilter{Project: "big", Name: store.NameFilter{Value: "trainer-7-train"}}},
		{"part of a name", store.RunFilter{Project: "big", Name: store.NameFilter{Value: "R-7-", Contains: true}}},
		{"a state, rare", store.RunFilter{Project: "big", States: []string{"running"}}},
		{"several states, rare", store.RunFilter{Project: "big", States: []string{"running", "pending", "created"}}},
		{"a label of all", store.RunFilter{Project: "big", Labels: label("kind", "job")}},
		{"a label of one in twenty", store.RunFilter{Project: "big", Labels: label("owner", "user3")}},
		{"a label, rare", store.RunFilter{Project: "big", Labels: label("rare", "yes")}},
		{"a label's key, rare", store.RunFilter{Project: "big", Labels: label("rare", "")}},
		{"a label nobody has", store.RunFilter{Project: "big", Labels: label("owner", "nobody")}},
		{"two labels", store.RunFilter{Project: "big", Labels: append(label("kind", "job"), label("owner", "user3")...)}},
		{"a label and a name", store.RunFilter{Project: "big", Labels: label("owner", "user7"), Name: store.NameFilter{Value: "trainer-7-train"}}},
		{"latest of each name", store.RunFilter{Project: "big", StartFrom: week, Partition: &store.RunPartition{ByProject: true, SortByUpdated: true, Rows: 1}}},
	} {
		if list.filter.Page.Size == 0 {
			list.filter.Page = page
		}
		var took []time.Duration
		rows := 0
		for begin := time.Now(); len(took) < 5 || len(took) < 200 && time.Since(begin) < time.Second; {
			at := time.Now()
			docs, _, err := b.store.RunList(ctx, list.filter)
			if err != nil {
				return fmt.Errorf("%s: %w", list.name, err)
			}
			took, rows = append(took, time.Since(at)), len(docs)
		}
		first := took[0]
		slices.Sort(took)
		fmt.Fprintf(b.out, "list %-26s %2d rows  first %9s  p50 %9s  max %9s\n", list.name, rows, round(first), round(took[len(took)/2]), round(took[len(took)-1]))
	}
	return nil
}

// reopen measures what a start costs with everything stored.
func (b *bench) reopen(ctx context.Context) error {
	for i := range 3 {
		at := time.Now()
		s, err := b.open(ctx)
		if err != nil {
			return err
		}
		opened := time.Since(at)
		_, err = s.ExecutionActive(ctx)
		fmt.Fprintf(b.out, "open %d: %s, with the unfinished executions read %s\n", i+1, round(opened), round(time.Since(at)))
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
	}
	return nil
}
