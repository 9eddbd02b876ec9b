// Command lineage measures questions about lineage in a store with many nodes: a
// pipeline that is repeated, each round a run that prepares data, one that trains
// on it and on the model of the round before, and what they made. All use one data
// set, and a tenth of the nodes are runs of one function version. Questions go up
// and down from nodes taken at random, beside point reads of runs by turns.
//
//	go run ./benchmarks/lineage [-nodes 1000000] [-questions 1000] [-keep FOLDER] [-database-url postgres://…] [-server http://…]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/lineage"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

func main() {
	var b bench
	flag.IntVar(&b.nodes, "nodes", 1_000_000, "runs and artifacts in all")
	flag.IntVar(&b.questions, "questions", 1000, "questions of each sort")
	flag.StringVar(&b.keep, "keep", "", "folder of the SQLite database, which is not made again when it is there")
	flag.StringVar(&b.database, "database-url", "", "PostgreSQL instead of SQLite: a database that is empty, or that this filled before")
	flag.StringVar(&b.server, "server", "", "asks over HTTP: the address of a server that runs on this database")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "lineage:", err)
		os.Exit(1)
	}
}

type bench struct {
	nodes, questions int
	keep, database   string
	server           string
	store            *store.Store
}

// Each round has these nodes beside its share of a function.
const (
	perRound = 5    // prepare, train; data, model, report
	chain    = 100  // rounds whose models follow from each other
	perCode  = 1000 // rounds of one function version
)

func (b *bench) run(ctx context.Context) (err error) {
	dir := b.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "lineage-bench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if b.store, err = store.Open(ctx, store.Options{Path: filepath.Join(dir, "millrace.db"), DatabaseURL: b.database}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	rounds := b.nodes / perRound
	if _, err := b.store.RunGet(ctx, run.Key{Project: "default", UID: uid("b", rounds-1)}); err == nil {
		return b.ask(ctx, rounds)
	}
	begin := time.Now()
	const group = 200
	for from := 0; from < rounds; from += group {
		err := b.store.Tx(ctx, func(tx *store.Tx) error {
			for i := from; i < min(from+group, rounds); i++ {
				if err := round(ctx, tx, i, rounds); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d nodes stored in %s\n", rounds*perRound, time.Since(begin).Round(time.Second))
	return b.ask(ctx, rounds)
}

func uid(step string, i int) string { return fmt.Sprintf("%s%031x", step, i) }

// code is the function of a round: one of the early rounds, others of the later.
func code(i, rounds int) string {
	if i < rounds/4 {
		return hub
	}
	return fmt.Sprintf("default/flow@%040x", i/perCode)
}

// What much was made with.
const (
	hub     = "default/hub@ffffffffffffffffffffffffffffffffffffffff"
	dataset = "s3://lake/calendar"
)

func round(ctx context.Context, tx *store.Tx, i, rounds int) error {
	put := func(step string, inputs document.Object) error {
		_, err := tx.RunPut(ctx, run.Key{Project: "default", UID: uid(step, i)}, document.Object{
			"metadata": document.Object{"name": fmt.Sprint("step-", step, "-", i%100)},
			"spec":     document.Object{"function": code(i, rounds), "parameters": document.Object{"round": i}, "inputs": inputs},
			"status":   document.Object{"state": "completed"},
		})
		return err
	}
	made := func(key, step string) error {
		_, err := tx.ArtifactPut(ctx, store.ArtifactPut{Project: "default", Key: fmt.Sprint(key, "-", i), Tree: uid(step, i), Doc: document.Object{
			"kind": "artifact", "metadata": document.Object{"key": key, "tree": uid(step, i)},
			"spec": document.Object{"target_path": fmt.Sprintf("/data/%s/%d", key, i), "producer": document.Object{"kind": "run", "uri": "default/" + uid(step, i)}},
		}})
		return err
	}
	inputs := document.Object{"data": fmt.Sprintf("store://artifacts/default/data-%d", i)}
	if i%chain > 0 {
		inputs["base"] = fmt.Sprintf("/data/model/%d", i-1)
	}
	if err := put("a", document.Object{"source": fmt.Sprintf("s3://lake/day-%d", i/10), "calendar": dataset}); err != nil {
		return err
	}
	return errors.Join(made("data", "a"), put("b", inputs), made("model", "b"), made("report", "b"))
}

// ask asks questions by turns with point reads, and prints how long they took.
func (b *bench) ask(ctx context.Context, rounds int) error {
	sorts := []struct {
		name string
		q    lineage.Question
		root func(i int) string
	}{
		{"model, up", lineage.Question{Direction: lineage.Up}, func(i int) string { return fmt.Sprintf("store://artifacts/default/model-%d", i) }},
		{"model, down", lineage.Question{Direction: lineage.Down}, func(i int) string { return fmt.Sprintf("store://artifacts/default/model-%d", i) }},
		{"data of ten runs, both", lineage.Question{}, func(i int) string { return fmt.Sprintf("s3://lake/day-%d", i/10) }},
		{"run, both, depth 100", lineage.Question{Depth: 100}, func(i int) string { return uid("b", i) }},
		{"function of 2000 runs, down", lineage.Question{Direction: lineage.Down}, func(i int) string { return code(max(i, rounds/4), rounds) }},
		{"function of a tenth of all, down", lineage.Question{Direction: lineage.Down}, func(int) string { return hub }},
		{"data set of all, down", lineage.Question{Direction: lineage.Down}, func(int) string { return dataset }},
		{"data set of all, 2000 nodes", lineage.Question{Direction: lineage.Down, Depth: 100, Nodes: 2000, Fan: 500}, func(int) string { return dataset }},
		{"run, both, 2000 nodes", lineage.Question{Depth: 100, Nodes: 2000, Fan: 500}, func(i int) string { return uid("b", i) }},
	}
	for _, s := range sorts {
		var reads, walks []time.Duration
		nodes := 0
		for range b.questions {
			i := rand.IntN(rounds)
			at := time.Now()
			if err := b.read(ctx, uid("b", i)); err != nil {
				return err
			}
			reads = append(reads, time.Since(at))
			at = time.Now()
			n, err := b.walk(ctx, s.root(rand.IntN(rounds)), s.q)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			walks, nodes = append(walks, time.Since(at)), nodes+n
		}
		slices.Sort(reads)
		slices.Sort(walks)
		mid, most := len(walks)/2, len(walks)*99/100
		fmt.Printf("%-33s %5d nodes  p50 %8s  p99 %8s   beside a read of a run: p50 %8s  p99 %8s\n", s.name, nodes/b.questions, round10(walks[mid]), round10(walks[most]), round10(reads[mid]), round10(reads[most]))
	}
	return nil
}

func (b *bench) read(ctx context.Context, uid string) error {
	if b.server != "" {
		return b.get(ctx, "/api/v1/run/default/"+uid, &document.Object{})
	}
	_, err := b.store.RunGet(ctx, run.Key{Project: "default", UID: uid})
	return err
}

// walk returns how many nodes the answer has.
func (b *bench) walk(ctx context.Context, root string, q lineage.Question) (int, error) {
	if b.server != "" {
		query := url.Values{"of": {root}}
		for name, value := range map[string]int{"depth": q.Depth, "nodes": q.Nodes, "fan": q.Fan} {
			if value > 0 {
				query.Set(name, strconv.Itoa(value))
			}
		}
		if q.Direction != "" {
			query.Set("direction", string(q.Direction))
		}
		var answer struct{ Nodes []json.RawMessage }
		err := b.get(ctx, "/api/v1/millrace/projects/default/lineage?"+query.Encode(), &answer)
		return len(answer.Nodes), err
	}
	var err error
	if q.Root, err = b.store.LineageFind(ctx, "default", root); err != nil {
		return 0, err
	}
	g, err := b.store.LineageWalk(ctx, q)
	if err != nil {
		return 0, err
	}
	return len(g.Nodes), nil
}

func (b *bench) get(ctx context.Context, path string, into any) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.server+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", path, response.Status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func round10(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
