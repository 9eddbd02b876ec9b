package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

func unchanged(doc document.Object) (document.Object, error) { return doc, nil }

func testRuns(t *testing.T, fresh Fresh) {
	key := run.Key{Project: "default", UID: "u1"}
	t.Run("put, update, mutate, read", func(t *testing.T) {
		b := setup(t, fresh)
		stored := b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n","labels":{"kind":"job"}},"status":{"results":{"nan":NaN,"f":1.0,"i":1}},"extra":{"kept":[{}]}}`)))
		got := b.doc(b.RunGet(b.ctx, key))
		if math.IsNaN(document.Get(stored, "status", "results", "nan").(float64)) {
			document.Set(stored, nil, "status", "results", "nan")
		}
		b.same(got, stored)
		b.same(document.Map(got, "status", "results"), `{"nan":null,"f":1.0,"i":1}`)
		if f := document.Get(got, "status", "results", "f").(json.Number); f != "1.0" {
			b.Error(f)
		}
		b.doc(b.RunUpdate(b.ctx, key, object(`{"status.results":{"new":1},"metadata.labels":{"kind":"job","a.b":"c"},"status.state":"running"}`)))
		got = b.doc(b.RunGet(b.ctx, key))
		b.same(document.Map(got, "status", "results"), `{"new":1}`)
		b.doc(b.RunMutate(b.ctx, key, func(doc document.Object) (document.Object, error) {
			run.Merge(doc, object(`{"results":{"more":2}}`))
			return doc, nil
		}))
		b.same(document.Map(b.doc(b.RunGet(b.ctx, key)), "status", "results"), `{"new":1,"more":2}`)
		no := errors.New("no")
		_, err := b.RunMutate(b.ctx, key, func(doc document.Object) (document.Object, error) {
			document.Set(doc, "x", "status", "results", "never")
			return doc, no
		})
		if !errors.Is(err, no) {
			b.Error(err)
		}
		b.same(document.Map(b.doc(b.RunGet(b.ctx, key)), "status", "results"), `{"new":1,"more":2}`)
	})
	t.Run("what is not there, what is not allowed", func(t *testing.T) {
		b := setup(t, fresh)
		_, err := b.RunGet(b.ctx, key)
		b.refuses(err, fault.CodeNotFound, "Run not found: uid=u1")
		_, err = b.RunUpdate(b.ctx, key, object(`{}`))
		b.refuses(err, fault.CodeNotFound, "Run not found")
		_, err = b.RunMutate(b.ctx, key, func(document.Object) (document.Object, error) { panic("called") })
		b.refuses(err, fault.CodeNotFound, "Run not found")
		err = b.Tx(b.ctx, func(tx *store.Tx) error {
			return tx.RunChildren(b.ctx, key, []store.ChildChange{{Iter: 1, Change: unchanged}})
		})
		b.refuses(err, fault.CodeNotFound, "Run not found")
		b.must(b.RunDelete(b.ctx, "default", "u1"))
		_, err = b.RunPut(b.ctx, key, object(`{}`))
		b.refuses(err, fault.CodeInvalid, "metadata.name is required")
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"}}`)))
		_, err = b.RunPut(b.ctx, key, object(`{"metadata":{"name":"m"}}`))
		b.refuses(err, fault.CodeInvalid, "Changing name")
		_, err = b.RunUpdate(b.ctx, key, object(`{"metadata.name":"m"}`))
		b.refuses(err, fault.CodeInvalid, "Changing name")
		_, err = b.RunUpdate(b.ctx, key, object(`{"status.state":"flying"}`))
		b.refuses(err, fault.CodeInvalid, `unknown run state "flying"`)
	})
	t.Run("iterations", func(t *testing.T) {
		b := setup(t, fresh)
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n","labels":{"owner":"ada"}},"spec":{"function":"default/f@1"}}`)))
		child := run.Key{Project: "default", UID: "u1", Iter: 2}
		for i := range 2 {
			b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
				return tx.RunChildren(b.ctx, key, []store.ChildChange{{Iter: child.Iter, Change: func(doc document.Object) (document.Object, error) {
					run.Merge(doc, object(`{"results":{"r%d":1}}`, i))
					return doc, nil
				}}})
			}))
		}
		got := b.doc(b.RunGet(b.ctx, child))
		b.same(document.Map(got, "metadata"), `{"name":"n","project":"default","uid":"u1","iteration":2,"labels":{"owner":"ada"},"annotations":{}}`)
		b.same(document.Map(got, "status", "results"), `{"r0":1,"r1":1}`)
		if document.String(got, "spec", "function") != "default/f@1" {
			b.Error(got)
		}
		b.must(b.RunDelete(b.ctx, "default", "u1"))
		_, err := b.RunGet(b.ctx, child)
		b.refuses(err, fault.CodeNotFound, "iter=2")
		docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", WithChildren: true, Labels: []store.LabelFilter{{Key: "owner"}}})
		b.must(err)
		if len(docs) != 0 {
			b.Error(docs)
		}
	})
	t.Run("many iterations together", func(t *testing.T) {
		b := setup(t, fresh)
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n","labels":{"owner":"ada","kind":"job"}},"spec":{"function":"default/f@1"}}`)))
		put := func(text string, iters ...int) {
			t.Helper()
			changes := make([]store.ChildChange, len(iters))
			for i, iter := range iters {
				changes[i] = store.ChildChange{Iter: iter, Change: func(doc document.Object) (document.Object, error) {
					run.Merge(doc, object(`{"results":{%q:%d}}`, text, iter))
					document.Set(doc, text, "metadata", "labels", "written")
					return doc, nil
				}}
			}
			b.must(b.Tx(b.ctx, func(tx *store.Tx) error { return tx.RunChildren(b.ctx, key, changes) }))
		}
		var all []int
		for iter := range 150 { // more than two statements of the largest size
			all = append(all, iter+1)
		}
		put("first", 7, 3, 149)
		put("second", all...)
		for _, iter := range []int{1, 3, 7, 64, 65, 149, 150} {
			want := fmt.Sprintf(`{"second":%d}`, iter)
			if iter == 3 || iter == 7 || iter == 149 {
				want = fmt.Sprintf(`{"first":%d,"second":%d}`, iter, iter)
			}
			child := b.doc(b.RunGet(b.ctx, run.Key{Project: "default", UID: "u1", Iter: iter}))
			b.same(document.Map(child, "status", "results"), want)
		}
		for label, want := range map[string]int{"first": 0, "second": 150} {
			docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", WithChildren: true, Labels: []store.LabelFilter{{Key: "written", Value: label, HasValue: true}}})
			b.must(err)
			if len(docs) != want {
				b.Errorf("%d iterations have the label %s, not %d", len(docs), label, want)
			}
		}
		no := errors.New("no")
		err := b.Tx(b.ctx, func(tx *store.Tx) error {
			return tx.RunChildren(b.ctx, key, []store.ChildChange{{Iter: 200, Change: unchanged}, {Iter: 201, Change: func(document.Object) (document.Object, error) { return nil, no }}})
		})
		if !errors.Is(err, no) {
			b.Error(err)
		}
		_, err = b.RunGet(b.ctx, run.Key{Project: "default", UID: "u1", Iter: 200})
		b.refuses(err, fault.CodeNotFound, "iter=200")
	})
	t.Run("pages of iterations", func(t *testing.T) {
		b := setup(t, fresh)
		none := func(document.Object) error { panic("called") }
		_, err := b.RunIterations(b.ctx, key, store.IterationFilter{}, none)
		b.refuses(err, fault.CodeNotFound, "Run not found")
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"}}`)))
		results := []string{
			`{"acc":0.5,"o":{"deep":2}}`, `{"acc":-3}`, `{"acc":"high"}`, `{}`, `{"acc":12}`, `{"acc":null}`, `{"acc":0.5}`, `{"acc":true,"o.deep":1}`, `{"acc":1e300}`, `{"it's":7}`,
		}
		var changes []store.ChildChange
		for i, text := range results {
			changes = append(changes, store.ChildChange{Iter: i + 1, Change: func(doc document.Object) (document.Object, error) {
				state := "completed"
				if i%3 == 2 {
					state = "error"
				}
				run.Merge(doc, object(`{"results":%s,"parameters":{"rate":%d}}`, text, -i))
				document.Set(doc, state, "status", "state")
				return doc, nil
			}})
		}
		b.must(b.Tx(b.ctx, func(tx *store.Tx) error { return tx.RunChildren(b.ctx, key, changes) }))
		for _, test := range []struct {
			sort   string
			states []string
			page   store.Page
			want   string
			more   bool
		}{
			{"", nil, store.Page{}, "[1 2 3 4 5 6 7 8 9 10]", false},
			{"-iter", nil, store.Page{Size: 3, Offset: 2}, "[8 7 6]", true},
			{"iter", []string{"error"}, store.Page{}, "[3 6 9]", false},
			{"output.acc", nil, store.Page{}, "[2 1 7 8 5 9 3 4 6 10]", false},
			{"-output.acc", nil, store.Page{}, "[9 5 8 1 7 2 3 4 6 10]", false},
			{"-output.acc", nil, store.Page{Size: 4}, "[9 5 8 1]", true},
			{"-output.acc", []string{"completed"}, store.Page{Size: 4, Offset: 4}, "[2 4 10]", false},
			{"output.o.deep", nil, store.Page{Size: 3}, "[8 1 2]", true},
			{"param.rate", nil, store.Page{Size: 2}, "[10 9]", true},
			{"output.it's", nil, store.Page{Size: 1}, "[10]", true},
			{"output.nothing", nil, store.Page{Size: 2, Offset: 9}, "[10]", false},
			{"output.acc", nil, store.Page{Size: 2, Offset: 100}, "[]", false},
		} {
			sort, err := store.ParseIterationSort(test.sort)
			b.must(err)
			iters := []int64{}
			more, err := b.RunIterations(b.ctx, key, store.IterationFilter{Sort: sort, States: test.states, Page: test.page}, func(doc document.Object) error {
				iter, _ := document.Int(doc, "metadata", "iteration")
				iters = append(iters, iter)
				return nil
			})
			b.must(err)
			if got := fmt.Sprint(iters); got != test.want || more != test.more {
				b.Errorf("%s %v %v: %s, more %v; want %s, %v", test.sort, test.states, test.page, got, more, test.want, test.more)
			}
		}
	})
	t.Run("all of many iterations", func(t *testing.T) {
		b := setup(t, fresh)
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"}}`)))
		var changes []store.ChildChange
		for i := range 1203 { // several chunks
			changes = append(changes, store.ChildChange{Iter: i + 1, Change: func(doc document.Object) (document.Object, error) {
				run.Merge(doc, object(`{"results":{"x":%d}}`, (i*500)%1203))
				return doc, nil
			}})
		}
		b.must(b.Tx(b.ctx, func(tx *store.Tx) error { return tx.RunChildren(b.ctx, key, changes) }))
		next := int64(0)
		more, err := b.RunIterations(b.ctx, key, store.IterationFilter{Sort: store.IterationSort{Section: "output", Name: "x"}}, func(doc document.Object) error {
			if x, _ := document.Int(doc, "status", "results", "x"); x != next {
				return fmt.Errorf("%d, not %d", x, next)
			}
			next++
			return nil
		})
		if err != nil || more || next != 1203 {
			b.Error(next, more, err)
		}
		enough := errors.New("enough")
		if _, err := b.RunIterations(b.ctx, key, store.IterationFilter{}, func(document.Object) error { return enough }); !errors.Is(err, enough) {
			b.Error(err)
		}
	})
	t.Run("a live run is not deleted", func(t *testing.T) {
		b := setup(t, fresh)
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"},"status":{"state":"running"}}`)))
		b.refuses(b.RunDelete(b.ctx, "default", "u1"), fault.CodeInvalid, "in state running")
		b.doc(b.RunUpdate(b.ctx, key, object(`{"status.state":"completed"}`)))
		b.must(b.RunDelete(b.ctx, "default", "u1"))
	})
	t.Run("labels follow every change", func(t *testing.T) {
		b := setup(t, fresh)
		find := func(label store.LabelFilter) int {
			docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", Labels: []store.LabelFilter{label}})
			b.must(err)
			return len(docs)
		}
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n","labels":{"a":"1","b":2}}}`)))
		if find(store.LabelFilter{Key: "a", Value: "1", HasValue: true}) != 1 || find(store.LabelFilter{Key: "b", Value: "2", HasValue: true}) != 1 {
			b.Error("labels are not found")
		}
		b.doc(b.RunUpdate(b.ctx, key, object(`{"metadata.labels":{"a":"2"},"status.start_time":"2020-01-01T00:00:00"}`)))
		if find(store.LabelFilter{Key: "a", Value: "1", HasValue: true}) != 0 || find(store.LabelFilter{Key: "b"}) != 0 || find(store.LabelFilter{Key: "a", Value: "2", HasValue: true}) != 1 {
			b.Error("labels are not those of the last change")
		}
		b.doc(b.RunUpdate(b.ctx, key, object(`{"status.start_time":"2021-01-01T00:00:00"}`)))
		if find(store.LabelFilter{Key: "a", Value: "2", HasValue: true}) != 1 {
			b.Error("a label is lost with the start time")
		}
	})
	t.Run("a final state stays, whoever writes", func(t *testing.T) {
		b := setup(t, fresh)
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range 40 {
			key := run.Key{Project: "default", UID: fmt.Sprint("u", n)}
			b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"}}`)))
			final := ""
			for range 12 {
				state := run.States()[rng.IntN(len(run.States()))]
				var err error
				switch rng.IntN(4) {
				case 0:
					_, err = b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"},"status":{"state":"%s"}}`, state))
				case 1:
					_, err = b.RunUpdate(b.ctx, key, object(`{"status.state":"%s"}`, state))
				case 2:
					_, err = b.RunMutate(b.ctx, key, func(doc document.Object) (document.Object, error) {
						document.Set(doc, string(state), "status", "state")
						return doc, nil
					})
				case 3:
					_, err = b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"}}`))
				}
				b.must(err)
				got := document.String(b.doc(b.RunGet(b.ctx, key)), "status", "state")
				if final != "" && got != final {
					b.Fatalf("%s became %s", final, got)
				}
				if run.State(got).Terminal() {
					final = got
				}
			}
		}
	})
}

func testStrangeInput(t *testing.T, fresh Fresh) {
	t.Run("texts that databases do not take are refused or kept", func(t *testing.T) {
		b := setup(t, fresh)
		for uid, body := range map[string]string{
			"long label": `{"metadata":{"name":"n","labels":{"a":"` + strings.Repeat("x", 10<<20) + `"}}}`,
			"nul label":  `{"metadata":{"name":"n","labels":{"a":"\u0000"}}}`,
			"nul key":    `{"metadata":{"name":"n","labels":{"\u0000":"a"}}}`,
			"long name":  `{"metadata":{"name":"` + strings.Repeat("x", 10<<20) + `"}}`,
			"nul name":   `{"metadata":{"name":"\u0000"}}`,
			"labels":     `{"metadata":{"name":"n","labels":[]}}`,
			"results":    `{"metadata":{"name":"n"},"status":{"results":[]}}`,
			"status":     `{"metadata":{"name":"n"},"status":"running"}`,
			"state":      `{"metadata":{"name":"n"},"status":{"state":5}}`,
			"start":      `{"metadata":{"name":"n"},"status":{"start_time":"yesterday"}}`,
		} {
			_, err := b.RunPut(b.ctx, run.Key{Project: "default", UID: uid}, object("%s", body))
			if !fault.Is(err, fault.CodeInvalid) || len(err.Error()) > 500 {
				b.Errorf("%s: %.600v", uid, err)
			}
			if _, err := b.RunGet(b.ctx, run.Key{Project: "default", UID: uid}); !fault.Is(err, fault.CodeNotFound) {
				b.Errorf("%s: half-written: %v", uid, err)
			}
		}
		for _, uid := range []string{"", "\x00", "a/b", strings.Repeat("u", 300), "..", "\xff"} {
			_, err := b.RunPut(b.ctx, run.Key{Project: "default", UID: uid}, object(`{"metadata":{"name":"n"}}`))
			if !fault.Is(err, fault.CodeInvalid) {
				b.Errorf("uid %q: %v", uid, err)
			}
		}
		value := strings.Repeat("é\u0000\"\\", 1<<20)
		doc := object(`{"metadata":{"name":"ünï'%%_;--","labels":{"k'\"":"v%%_é"}}}`)
		document.Set(doc, value, "status", "results", "big\x00")
		key := run.Key{Project: "default", UID: "strange'\";--%_"}
		b.doc(b.RunPut(b.ctx, key, doc))
		if got := document.String(b.doc(b.RunGet(b.ctx, key)), "status", "results", "big\x00"); got != value {
			b.Error("a value with NUL characters changed")
		}
		for _, label := range []store.LabelFilter{{Key: `k'"`, Value: "v%_é", HasValue: true}, {Key: "K", KeyContains: true}, {Key: `k'"`, Value: "V%_", HasValue: true, ValueContains: true}} {
			docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", Labels: []store.LabelFilter{label}})
			b.must(err)
			if len(docs) != 1 {
				b.Errorf("%v finds %d", label, len(docs))
			}
		}
	})
	t.Run("whatever is asked for, the answer is no failure", func(t *testing.T) {
		b := setup(t, fresh)
		for _, text := range []string{"\x00", "\xff\xfe", "%", "_", "'", `"`, `\`, "$1", "?", strings.Repeat("x", 1<<20), "é", "🙂", ";DROP TABLE runs"} {
			_, err := b.RunGet(b.ctx, run.Key{Project: text, UID: text})
			b.refuses(err, fault.CodeNotFound, "")
			_, err = b.FunctionGet(b.ctx, text, text, text, "")
			b.refuses(err, fault.CodeNotFound, "")
			_, err = b.FunctionGet(b.ctx, text, text, "", text)
			b.refuses(err, fault.CodeNotFound, "")
			_, err = b.ProjectGet(b.ctx, text)
			b.refuses(err, fault.CodeNotFound, "")
			_, err = b.TaskGet(b.ctx, text, text)
			b.refuses(err, fault.CodeNotFound, "")
			_, err = b.ArtifactGet(b.ctx, store.ArtifactFilter{Project: text, Name: store.NameFilter{Value: text}, Tag: text, Tree: text, UID: text})
			b.refuses(err, fault.CodeNotFound, "")
			labels := []store.LabelFilter{{Key: text}, {Key: text, KeyContains: true, Value: text, HasValue: true, ValueContains: true}}
			for _, contains := range []bool{false, true} {
				name := store.NameFilter{Value: text, Contains: contains}
				for _, partition := range []*store.RunPartition{nil, {Rows: 1}, {Rows: 1, ByProject: true, Ascending: true, Max: 1}} {
					docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", Name: name, UIDs: []string{text, text}, Labels: labels, States: []string{text, "x"}, Partition: partition, Page: store.Page{Size: 5}})
					b.must(err)
					if len(docs) > 0 {
						b.Error(docs)
					}
				}
				_, _, err = b.FunctionList(b.ctx, store.FunctionFilter{Project: text, Name: name, Labels: labels, Hash: text, Kind: text, States: []string{text}})
				b.must(err)
				_, _, err = b.ArtifactList(b.ctx, store.ArtifactFilter{Project: text, Name: name, Labels: labels, ProducerURI: text, Kinds: []string{text}})
				b.must(err)
			}
			_, err = b.ProjectList(b.ctx, store.ProjectFilter{Owner: text, State: text, Labels: labels})
			b.must(err)
			_, err = b.ArtifactTags(b.ctx, text, "")
			b.must(err)
			b.must(b.FunctionDelete(b.ctx, text, text))
			b.must(b.RunDelete(b.ctx, text, text))
			_, err = b.ArtifactDelete(b.ctx, store.ArtifactFilter{Project: text, Name: store.NameFilter{Value: text}})
			b.must(err)
			_, _, err = b.RunList(b.ctx, store.RunFilter{Project: "*", Name: store.NameFilter{Value: text}, Unsorted: true})
			b.must(err)
		}
	})
}
