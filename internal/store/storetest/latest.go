package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// testLatest compares the latest runs of each name with a model while runs are
// stored, changed, deleted and moved in time, by a clock that also goes back.
func testLatest(t *testing.T, fresh Fresh) {
	t.Run("as the model", func(t *testing.T) {
		b := setup(t, fresh)
		rng := rand.New(rand.NewPCG(11, 4))
		m := &model{}
		day := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
		for i := range 400 {
			if rng.IntN(10) == 0 {
				b.clock.Advance(time.Duration(rng.IntN(2000)-1000) * time.Millisecond)
			}
			b.change(m, rng, i, day)
			for _, updated := range []bool{true, false} {
				for _, from := range []time.Time{{}, day.Add(time.Duration(rng.IntN(24)) * time.Hour)} {
					filter := store.RunFilter{Project: "default", StartFrom: from, Partition: &store.RunPartition{Rows: 1, SortByUpdated: updated}}
					if rng.IntN(3) == 0 {
						filter.Partition.Max = 2
					}
					docs, _, err := b.RunList(b.ctx, filter)
					b.must(err)
					want, _ := m.list(filter)
					if diff := cmpDiff(ids(docs), want); diff != "" {
						b.Fatalf("step %d, %s: -want +got\n%s", i, describe(filter), diff)
					}
				}
			}
		}
		b.must(b.ProjectDelete(b.ctx, "default"))
		b.doc(b.ProjectPut(b.ctx, "default", object(`{}`)))
		docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", Partition: &store.RunPartition{Rows: 1}})
		b.must(err)
		b.same(len(docs), 0)
	})
}

// change makes step i: a new run, a change of one, another start of one, or the
// end of one.
func (b *bundle) change(m *model, rng *rand.Rand, i int, day time.Time) {
	b.Helper()
	at := -1
	if len(m.runs) > 0 && rng.IntN(3) > 0 {
		at = rng.IntN(len(m.runs))
	}
	start := day.Add(time.Duration(rng.IntN(24)) * time.Hour)
	switch what := rng.IntN(4); {
	case at < 0:
		doc := b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: fmt.Sprintf("u%04d", i), Iter: max(0, rng.IntN(6)-4)}, document.Object{
			"metadata": document.Object{"name": fmt.Sprint("n", rng.IntN(5))}, "status": document.Object{"state": "completed", "start_time": start},
		}))
		m.runs = append(m.runs, modelOf(doc, i))
	case what == 0 && m.runs[at].iter == 0:
		b.must(b.RunDelete(b.ctx, "default", m.uid(at)))
		m.runs = slices.Delete(m.runs, at, at+1)
	case what == 1:
		doc := b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: m.uid(at), Iter: m.runs[at].iter}, document.Object{
			"metadata": document.Object{"name": m.runs[at].name}, "status": document.Object{"state": "completed", "start_time": start},
		}))
		m.runs[at] = modelOf(doc, m.runs[at].order)
	default:
		doc := b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: m.uid(at), Iter: m.runs[at].iter}, object(`{"status.results":{"a":%d}}`, i)))
		m.runs[at] = modelOf(doc, m.runs[at].order)
	}
}

func (m *model) uid(at int) string { return fmt.Sprintf("u%04d", m.runs[at].order) }
