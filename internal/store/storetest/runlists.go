package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// testRunLists compares lists with a model over enough runs that every way of
// finding them is taken: frequent and rare labels, few and thousands of names.
func testRunLists(t *testing.T, fresh Fresh) {
	t.Run("as the model", func(t *testing.T) {
		b := setup(t, fresh)
		m := fill(b, rand.New(rand.NewPCG(7, 7)))
		filters := []store.RunFilter{
			{Project: "p1"}, {Project: "*"}, {Project: "none"}, {Project: "p1", WithChildren: true}, {Project: "p1", Unsorted: true},
			{Project: "many", Partition: &store.RunPartition{Rows: 1, SortByUpdated: true}},
			{Project: "many", Partition: &store.RunPartition{Rows: 1, Max: 10}},
			{Project: "p1", Labels: []store.LabelFilter{{Key: "rare"}}},
			{Project: "p1", Labels: []store.LabelFilter{{Key: "rare", Value: "yes", HasValue: true}, {Key: "all"}}},
			{Project: "p1", Labels: []store.LabelFilter{{Key: "all", Value: "yes", HasValue: true}}, States: []string{"error"}},
			{Project: "p1", Labels: []store.LabelFilter{{Key: "all", Value: "yes", HasValue: true}}, Page: store.Page{Size: 20}},
			{Project: "p1", Labels: []store.LabelFilter{{Key: "all", Value: "yes", HasValue: true}}, WithChildren: true, Page: store.Page{Offset: 30, Size: 20}},
			{Project: "p1", Limit: 7, Page: store.Page{Offset: 5, Size: 5}}, {Project: "p1", Limit: 5, Page: store.Page{Offset: 5, Size: 5}},
		}
		rng := rand.New(rand.NewPCG(3, 5))
		for range 250 {
			filters = append(filters, m.filter(rng))
		}
		for _, filter := range filters {
			docs, more, err := b.RunList(b.ctx, filter)
			if err != nil {
				b.Fatalf("%s: %v", describe(filter), err)
			}
			want, wantMore := m.list(filter)
			if diff := cmpDiff(ids(docs), want); diff != "" || more != wantMore {
				b.Fatalf("%s: more %t, want %t; -want +got\n%s", describe(filter), more, wantMore, diff)
			}
		}
	})
	t.Run("pages cover the list", func(t *testing.T) {
		b := setup(t, fresh)
		for i := range 25 {
			b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: fmt.Sprint("u", i)}, object(`{"metadata":{"name":"n","labels":{"a":"b"}},"status":{"start_time":"2024-01-01T00:00:0%d"}}`, i%3)))
		}
		for _, filter := range []store.RunFilter{{Project: "default"}, {Project: "default", Labels: []store.LabelFilter{{Key: "a", Value: "b", HasValue: true}}}, {Project: "default", States: []string{"created", "running"}}} {
			seen := map[string]int{}
			for page := 0; ; page++ {
				filter.Page = store.Page{Offset: page * 5, Size: 5}
				docs, more, err := b.RunList(b.ctx, filter)
				b.must(err)
				for _, id := range ids(docs) {
					seen[id]++
				}
				if len(docs) != 5 {
					b.Errorf("page %d has %d", page, len(docs))
				}
				if !more {
					break
				}
			}
			if len(seen) != 25 || slices.ContainsFunc(slices.Collect(maps.Values(seen)), func(n int) bool { return n != 1 }) {
				b.Errorf("%s: %v", describe(filter), seen)
			}
		}
	})
}

// modelRun is a run as the model knows it.
type modelRun struct {
	id                   string
	project, name, state string
	iter, order          int
	start, updated, end  time.Time
	labels               map[string]string
}

type model struct{ runs []modelRun }

// fill stores runs at random, all in one transaction a project.
func fill(b *bundle, rng *rand.Rand) *model {
	m := &model{}
	for _, project := range []struct {
		name        string
		runs, names int
	}{{"p1", 1400, 12}, {"p2", 60, 4}, {"many", 2100, 2100}} {
		b.doc(b.ProjectPut(b.ctx, project.name, object(`{}`)))
		base := len(m.runs)
		b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
			m.runs = m.runs[:base]
			for i := range project.runs {
				iter := 0
				if i%10 == 9 {
					iter = 1 + rng.IntN(3)
				}
				key := run.Key{Project: project.name, UID: fmt.Sprintf("u%04d", i), Iter: iter}
				labels := document.Object{"all": "yes", "Owner": []string{"ada", "Bob", "Eve"}[rng.IntN(3)]}
				if i%200 == 0 {
					labels["rare"] = []string{"yes", "no"}[rng.IntN(2)]
				}
				state := run.States()[rng.IntN(len(run.States()))]
				status := document.Object{"state": string(state), "start_time": time.Date(2024, 3, 1, rng.IntN(12), rng.IntN(60), 0, 0, time.UTC)}
				doc, err := tx.RunPut(b.ctx, key, document.Object{
					"metadata": document.Object{"name": fmt.Sprintf("Name_%d", rng.IntN(project.names)), "labels": labels}, "status": status,
				})
				if err != nil {
					return err
				}
				m.runs = append(m.runs, modelOf(doc, i))
			}
			return nil
		}))
		for range project.runs / 10 { // some are updated later, each at a time of its own
			r := &m.runs[base+rng.IntN(project.runs)]
			doc := b.doc(b.RunUpdate(b.ctx, run.Key{Project: r.project, UID: strings.Split(r.id, "/")[1], Iter: r.iter}, object(`{"status.results":{"a":1}}`)))
			*r = modelOf(doc, r.order)
		}
	}
	return m
}

func modelOf(doc document.Object, order int) modelRun {
	iter, _ := document.Int(doc, "metadata", "iteration")
	return modelRun{
		id: ids([]document.Object{doc})[0], project: document.String(doc, "metadata", "project"), name: document.String(doc, "metadata", "name"),
		state: document.String(doc, "status", "state"), iter: int(iter), order: order, labels: document.Strings(doc, "metadata", "labels"),
		start: run.Time(doc, "status", "start_time"), updated: run.Time(doc, "status", "last_update"), end: run.Time(doc, "status", "end_time"),
	}
}

func ids(docs []document.Object) []string {
	out := []string{}
	for _, doc := range docs {
		iter, _ := document.Int(doc, "metadata", "iteration")
		out = append(out, fmt.Sprintf("%s/%s/%d", document.String(doc, "metadata", "project"), document.String(doc, "metadata", "uid"), iter))
	}
	return out
}

// filter makes up a filter that finds something more often than not.
func (m *model) filter(rng *rand.Rand) store.RunFilter {
	some := func() modelRun { return m.runs[rng.IntN(len(m.runs))] }
	f := store.RunFilter{Project: []string{"p1", "p1", "p2", "many", "*", ""}[rng.IntN(6)], WithChildren: rng.IntN(3) == 0, Unsorted: rng.IntN(6) == 0}
	if rng.IntN(4) == 0 {
		f.Name = store.NameFilter{Value: some().name}
	} else if rng.IntN(6) == 0 {
		f.Name = store.NameFilter{Value: []string{"name_1", "_", "E_"}[rng.IntN(3)], Contains: true}
	}
	for range rng.IntN(4) {
		f.States = append(f.States, some().state)
	}
	slices.Sort(f.States)
	f.States = slices.Compact(f.States)
	if rng.IntN(8) == 0 {
		for range 3 {
			f.UIDs = append(f.UIDs, strings.Split(some().id, "/")[1])
		}
	}
	for range rng.IntN(3) {
		f.Labels = append(f.Labels, []store.LabelFilter{
			{Key: "all"}, {Key: "all", Value: "yes", HasValue: true}, {Key: "Owner", Value: "ada", HasValue: true}, {Key: "Owner", Value: "B", HasValue: true, ValueContains: true},
			{Key: "rare"}, {Key: "rare", Value: "no", HasValue: true}, {Key: "OWN", KeyContains: true, Value: "E", HasValue: true, ValueContains: true}, {Key: "ar", KeyContains: true},
		}[rng.IntN(8)])
	}
	for _, bound := range []struct {
		into *time.Time
		at   time.Time
	}{{&f.StartFrom, some().start}, {&f.StartTo, some().start}, {&f.UpdatedFrom, some().updated}, {&f.UpdatedTo, some().updated}, {&f.EndFrom, some().end}, {&f.EndTo, some().end}} {
		if rng.IntN(7) == 0 {
			*bound.into = bound.at
		}
	}
	if rng.IntN(3) == 0 {
		f.Partition = &store.RunPartition{ByProject: rng.IntN(2) == 0, SortByUpdated: rng.IntN(2) == 0, Ascending: rng.IntN(4) == 0, Rows: 1 + rng.IntN(3), Max: rng.IntN(2) * rng.IntN(6)}
	}
	if rng.IntN(2) == 0 {
		f.Page = store.Page{Offset: rng.IntN(3) * 10, Size: 1 + rng.IntN(30)}
	}
	if rng.IntN(5) == 0 {
		f.Limit = 1 + rng.IntN(40)
	}
	return f
}

// list is what RunList has to answer.
func (m *model) list(f store.RunFilter) ([]string, bool) {
	var found []modelRun
	for _, r := range m.runs {
		if m.matches(r, f) {
			found = append(found, r)
		}
	}
	if f.Partition != nil {
		found = partition(found, *f.Partition)
	}
	slices.SortStableFunc(found, func(a, b modelRun) int {
		if f.Unsorted {
			return m.stored(a) - m.stored(b)
		}
		return cmp.Or(b.start.Compare(a.start), m.stored(b)-m.stored(a))
	})
	if f.Limit > 0 && len(found) > f.Limit {
		found = found[:f.Limit]
	}
	found = found[min(f.Page.Offset, len(found)):]
	more := f.Page.Size > 0 && len(found) > f.Page.Size
	if more {
		found = found[:f.Page.Size]
	}
	out := []string{}
	for _, r := range found {
		out = append(out, r.id)
	}
	return out, more
}

// stored is the place of a run in the order of storing.
func (m *model) stored(r modelRun) int {
	return map[string]int{"p1": 0, "p2": 1, "many": 2}[r.project]*10000 + r.order
}

func (m *model) matches(r modelRun, f store.RunFilter) bool {
	within := func(t, from, to time.Time) bool {
		return (from.IsZero() || !t.IsZero() && !t.Before(from)) && (to.IsZero() || !t.IsZero() && !t.After(to))
	}
	match := func(text, value string, contains bool) bool {
		return contains && strings.Contains(strings.ToLower(text), strings.ToLower(value)) || !contains && text == value
	}
	for _, l := range f.Labels {
		has := false
		for key, value := range r.labels {
			has = has || match(key, l.Key, l.KeyContains) && (!l.HasValue || match(value, l.Value, l.ValueContains))
		}
		if !has {
			return false
		}
	}
	return (f.Project == "*" || f.Project == "" || f.Project == r.project) && (f.WithChildren || r.iter == 0) &&
		(f.Name.Value == "" || match(r.name, f.Name.Value, f.Name.Contains)) &&
		(len(f.UIDs) == 0 || slices.Contains(f.UIDs, strings.Split(r.id, "/")[1])) && (len(f.States) == 0 || slices.Contains(f.States, r.state)) &&
		within(r.start, f.StartFrom, f.StartTo) && within(r.updated, f.UpdatedFrom, f.UpdatedTo) && within(r.end, f.EndFrom, f.EndTo)
}

func partition(runs []modelRun, p store.RunPartition) []modelRun {
	value := func(r modelRun) time.Time {
		if p.SortByUpdated {
			return r.updated
		}
		return r.start
	}
	groups := map[string][]modelRun{}
	for _, r := range runs {
		name := r.name
		if p.ByProject {
			name = r.project + "/" + name
		}
		groups[name] = append(groups[name], r)
	}
	project := map[string]int{"p1": 0, "p2": 1, "many": 2}
	newest := map[time.Time]bool{}
	latest := func(group []modelRun) (at time.Time) {
		for _, r := range group {
			if value(r).After(at) {
				at = value(r)
			}
		}
		return at
	}
	for _, group := range groups {
		newest[latest(group)] = true
	}
	ranked := slices.SortedFunc(maps.Keys(newest), func(a, b time.Time) int { return b.Compare(a) })
	var out []modelRun
	for _, group := range groups {
		if p.Max > 0 && slices.IndexFunc(ranked, latest(group).Equal) >= p.Max {
			continue
		}
		slices.SortFunc(group, func(a, b modelRun) int {
			order := cmp.Or(value(a).Compare(value(b)), a.start.Compare(b.start), project[a.project]-project[b.project], a.order-b.order)
			if p.Ascending {
				return order
			}
			return -order
		})
		out = append(out, group[:min(p.Rows, len(group))]...)
	}
	return out
}

func describe(f store.RunFilter) string {
	text := fmt.Sprintf("%+v", f)
	if f.Partition != nil {
		text += fmt.Sprintf(" partition %+v", *f.Partition)
	}
	return text
}
