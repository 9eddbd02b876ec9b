package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lineage"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// edgesOf lists the edges of an answer as "from > to (role name)", sorted.
func (b *bundle) edgesOf(name string, way lineage.Direction) []string {
	b.Helper()
	id, err := b.LineageFind(b.ctx, "default", name)
	b.must(err)
	g, err := b.LineageWalk(b.ctx, lineage.Question{Root: id, Direction: way})
	b.must(err)
	short := func(id string) string {
		id, _, _ = strings.Cut(id, "@")
		return id
	}
	out := make([]string, len(g.Edges))
	for i, e := range g.Edges {
		out[i] = strings.TrimSpace(fmt.Sprintf("%s > %s %s %s", short(e.From), short(e.To), e.Role, e.Name))
	}
	slices.Sort(out)
	return out
}

// step stores a run with its inputs and the artifacts that it made.
func (b *bundle) step(uid, spec string, artifacts ...string) {
	b.Helper()
	key := run.Key{Project: "default", UID: uid}
	b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":%q},"spec":%s}`, "n-"+uid, spec)))
	for _, name := range artifacts {
		b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: name, Tree: uid, Doc: object(
			`{"kind":"model","metadata":{"key":%q,"tree":%q},"spec":{"target_path":%q,"producer":{"kind":"run","uri":%q}}}`, name, uid, "/files/"+uid+"/"+name, "default/"+uid)}))
	}
}

func testLineage(t *testing.T, fresh Fresh) {
	flow := func(t *testing.T) *bundle {
		b := setup(t, fresh)
		b.step("a1", `{"function":"default/f@0a","inputs":{"raw : str":"s3://lake/raw"}}`, "clean")
		b.step("b2", `{"function":"default/f@0a","inputs":{"data":"store://artifacts/default/clean"}}`, "model")
		b.step("c3", `{"inputs":{"m":"store://models/default/model:latest@b2","file":"/files/a1/clean","gone":"store://artifacts/default/never"}}`)
		return b
	}
	all := []string{
		"artifact:default/clean > run:default/b2 input data", "artifact:default/clean > run:default/c3 input file",
		"artifact:default/model > run:default/c3 input m", "data:s3://lake/raw > run:default/a1 input raw",
		"data:store://artifacts/default/never > run:default/c3 input gone", "function:default/f > run:default/a1 function",
		"function:default/f > run:default/b2 function", "run:default/a1 > artifact:default/clean output clean",
		"run:default/b2 > artifact:default/model output model",
	}
	t.Run("up and down", func(t *testing.T) {
		b := flow(t)
		b.same(anyStrings(b.edgesOf("c3", lineage.Up)), anyStrings(all))
		b.same(anyStrings(b.edgesOf("s3://lake/raw", lineage.Down)), anyStrings(without(all, "function:", "data:store")))
		b.same(anyStrings(b.edgesOf("default/f@0a", lineage.Down)), anyStrings(without(all, "data:")))
		b.same(anyStrings(b.edgesOf("model", lineage.Both)), anyStrings(without(all, "data:store", "artifact:default/clean > run:default/c3")))
		b.same(anyStrings(b.edgesOf("clean", lineage.Up)), anyStrings([]string{all[3], all[5], all[7]}))
	})
	t.Run("a version stays what it was", func(t *testing.T) {
		b := flow(t)
		b.step("d4", `{}`, "clean") // the tag latest moves
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "b2"}, object(`{"status.results":{"x":1}}`)))
		b.same(anyStrings(b.edgesOf("clean", lineage.Down)), []any{})
		b.same(anyStrings(b.edgesOf("b2", lineage.Up)), anyStrings([]string{all[0], all[3], all[5], all[6], all[7]}))
	})
	t.Run("an input that changes", func(t *testing.T) {
		b := flow(t)
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "b2"}, object(`{"spec.inputs":{"other":"s3://lake/x"}}`)))
		b.same(anyStrings(b.edgesOf("b2", lineage.Up)), anyStrings([]string{"data:s3://lake/x > run:default/b2 input other", all[6]}))
	})
	t.Run("deleted", func(t *testing.T) {
		b := flow(t)
		b.must(b.RunDelete(b.ctx, "default", "b2"))
		b.same(anyStrings(b.edgesOf("clean", lineage.Down)), anyStrings([]string{all[1]}))
		// The artifact is kept and tells which run made it.
		b.same(anyStrings(b.edgesOf("model", lineage.Up)), anyStrings([]string{all[8]}))
		if _, err := b.ArtifactDelete(b.ctx, store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: "clean"}}); err != nil {
			b.Fatal(err)
		}
		if got := b.edgesOf("c3", lineage.Up); !slices.Contains(got, all[1]) {
			b.Errorf("the input of a deleted artifact is not told: %v", got)
		}
		b.same(anyStrings(b.edgesOf("/files/a1/clean", lineage.Down)), anyStrings([]string{"data:/files/a1/clean > run:default/c3 input file"}))
		b.must(b.ProjectDelete(b.ctx, "default"))
		_, err := b.LineageFind(b.ctx, "default", "s3://lake/raw")
		b.refuses(err, fault.CodeNotFound, "nothing is known of s3://lake/raw")
	})
	t.Run("content, iterations, reruns", func(t *testing.T) {
		b := setup(t, fresh)
		b.step("a1", `{}`, "model")
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "a1"}, object(`{"status.provenance":{"outputs":{"model":{"digest":"sha256:00ff"}}}}`)))
		b.step("b2", `{"inputs":{"m":"/copied/elsewhere"}}`)
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "b2"}, object(`{"status.provenance":{"inputs":{"m":{"digest":"sha256:00ff"}},"rerun_of":"a1"}}`)))
		b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
			return tx.RunChildren(b.ctx, run.Key{Project: "default", UID: "b2"}, []store.ChildChange{{Iter: 3, Change: unchanged}})
		}))
		want := []string{"artifact:default/model > run:default/b2 content m", "run:default/a1 > artifact:default/model output model", "run:default/a1 > run:default/b2 rerun"}
		b.same(anyStrings(b.edgesOf("b2", lineage.Up)), anyStrings(want))
		b.same(anyStrings(b.edgesOf("a1", lineage.Down)), anyStrings(append(want, "run:default/b2 > run:default/b2#3 child")))
		b.same(anyStrings(b.edgesOf("b2#3", lineage.Up)), anyStrings(append(want, "run:default/b2 > run:default/b2#3 child")))
	})
	t.Run("what was read at a path", func(t *testing.T) {
		b := setup(t, fresh)
		write := func(uid, digest string) {
			b.step(uid, `{}`)
			b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: uid + "_table", Tree: uid, Doc: object(
				`{"metadata":{"key":"table","tree":%q},"spec":{"target_path":"/lake/table","producer":{"kind":"run","uri":%q}}}`, uid, "default/"+uid)}))
			if digest != "" {
				b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: uid}, object(`{"status.provenance":{"outputs":{"table":{"digest":%q}}}}`, digest)))
			}
		}
		saw := func(uid, digest string) {
			b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: uid}, object(`{"status.provenance":{"inputs":{"t":{"digest":%q}}}}`, digest)))
		}
		reads := func(uid string) string {
			b.Helper()
			for _, e := range b.edgesOf(uid, lineage.Up) {
				if strings.Contains(e, "> run:default/"+uid+" ") {
					return e
				}
			}
			return ""
		}
		readers := func(key string) (uids []string) {
			b.Helper()
			for _, e := range b.edgesOf(key, lineage.Down) {
				if _, uid, ok := strings.Cut(e, "> run:default/"); ok {
					uids = append(uids, strings.Fields(uid)[0])
				}
			}
			return uids
		}
		b.step("r0", `{"inputs":{"t":"/lake/table"}}`) // before any artifact was there
		write("w1", "sha256:01")
		b.step("r1", `{"inputs":{"t":"/lake/table"}}`)
		saw("r1", "sha256:01")
		b.step("q1", `{"inputs":{"t":"file:///lake/table"}}`) // nobody knows which bytes it read
		b.step("late", `{"inputs":{"t":"/lake/table"}}`)      // waits, and reads when others were written
		write("w2", "sha256:02")
		saw("late", "sha256:02")
		b.step("old", `{"inputs":{"t":"/lake/table"}}`) // somebody has restored the old file
		saw("old", "sha256:01")
		b.step("edited", `{"inputs":{"t":"/lake/table"}}`) // and somebody has edited it
		saw("edited", "sha256:99")
		b.step("moved", `{"inputs":{"t":"/elsewhere"}}`)
		saw("moved", "sha256:02")
		write("w3", "")
		b.step("r3", `{"inputs":{"t":"/lake/table/"}}`)
		saw("r3", "sha256:03")
		b.step("self", `{"inputs":{"t":"/lake/table"}}`) // appends to what it reads
		write("self", "sha256:05")
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "self"}, object(`{"spec.inputs":{"t":"/lake/table"},"status.provenance":{"inputs":{"t":{"digest":"sha256:02"}},"outputs":{"table":{"digest":"sha256:05"}}}}`)))
		write("w5", "sha256:06")
		for uid, want := range map[string]string{
			"r0": "data:/lake/table > run:default/r0 input t", "r1": "artifact:default/w1_table > run:default/r1 input t",
			"q1": "artifact:default/w1_table > run:default/q1 input t", "late": "artifact:default/w2_table > run:default/late input t",
			"old": "artifact:default/w1_table > run:default/old input t", "edited": "data:/lake/table > run:default/edited input t",
			"moved": "artifact:default/w2_table > run:default/moved content t", "r3": "artifact:default/w3_table > run:default/r3 input t",
			"self": "artifact:default/w2_table > run:default/self input t",
		} {
			if got := reads(uid); got != want {
				b.Errorf("%s: %q, want %q", uid, got, want)
			}
		}
		b.same(anyStrings(readers("w1_table")), anyStrings([]string{"r1", "q1", "old"}))
		b.same(anyStrings(readers("w2_table")), anyStrings([]string{"late", "moved", "self"}))
		b.same(anyStrings(readers("w3_table")), anyStrings([]string{"r3"}))
		b.same(anyStrings(readers("w5_table")), []any{})
	})
	t.Run("what copies its input has not made it", func(t *testing.T) {
		b := setup(t, fresh)
		b.step("first", `{"inputs":{"x":"/outside"}}`)
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "first"}, object(`{"status.provenance":{"inputs":{"x":{"digest":"sha256:0a"}}}}`)))
		b.step("copy", `{"inputs":{"x":"/outside"}}`, "copied")
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "copy"}, object(`{"status.provenance":{"inputs":{"x":{"digest":"sha256:0a"}},"outputs":{"copied":{"digest":"sha256:0a"}}}}`)))
		b.step("later", `{"inputs":{"x":"/elsewhere"}}`)
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "later"}, object(`{"status.provenance":{"inputs":{"x":{"digest":"sha256:0a"}}}}`)))
		b.same(anyStrings(b.edgesOf("first", lineage.Up)), anyStrings([]string{"data:/outside > run:default/first input x"}))
		b.same(anyStrings(b.edgesOf("copied", lineage.Up)), anyStrings([]string{"data:/outside > run:default/copy input x", "run:default/copy > artifact:default/copied output copied"}))
		b.same(anyStrings(b.edgesOf("copied", lineage.Down)), anyStrings([]string{"artifact:default/copied > run:default/later content x"}))
	})
	t.Run("content in a workflow", func(t *testing.T) {
		b := setup(t, fresh)
		b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: "s1"}, object(`{"metadata":{"name":"s","labels":{"workflow":"wf"}},"status":{"provenance":{"outputs":{"part":{"digest":"sha256:0b"}}}}}`)))
		b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "s_part", Tree: "wf", Doc: object(`{"metadata":{"key":"part","tree":"wf"},"spec":{"target_path":"/wf/part","producer":{"kind":"run","uri":"default/s1"}}}`)}))
		b.step("s2", `{"inputs":{"x":"/elsewhere"}}`)
		b.doc(b.RunUpdate(b.ctx, run.Key{Project: "default", UID: "s2"}, object(`{"status.provenance":{"inputs":{"x":{"digest":"sha256:0b"}}}}`)))
		want := []string{"artifact:default/s_part > run:default/s2 content x"}
		b.same(anyStrings(b.edgesOf("s_part", lineage.Down)), anyStrings(want))
		b.same(anyStrings(b.edgesOf("s2", lineage.Up)), anyStrings(append(want, "run:default/s1 > artifact:default/s_part output s_part")))
	})
	t.Run("limits", func(t *testing.T) {
		b := setup(t, fresh)
		b.step("a1", `{}`, "model")
		for i := range 40 {
			b.step(fmt.Sprintf("u%d", i), `{"inputs":{"m":"store://models/default/model"}}`)
		}
		id, err := b.LineageFind(b.ctx, "default", "model")
		b.must(err)
		for _, q := range []lineage.Question{{Root: id, Fan: 10}, {Root: id, Nodes: 12, Fan: 100, Direction: lineage.Down}} {
			g, err := b.LineageWalk(b.ctx, q)
			b.must(err)
			if len(g.Nodes) != 12 || !g.Cut[id] {
				b.Errorf("%+v: %d nodes, cut %v", q, len(g.Nodes), g.Cut)
			}
		}
		// A run that used it twice is one neighbour, and hides no other.
		b.step("b2", `{}`, "twice")
		for i := range 40 {
			b.step(fmt.Sprintf("w%d", i), `{"inputs":{"m":"store://models/default/twice","n":"store://models/default/twice"}}`)
		}
		twice, err := b.LineageFind(b.ctx, "default", "twice")
		b.must(err)
		for fan, cut := range map[int]bool{30: true, 39: true, 40: false, 60: false} {
			g, err := b.LineageWalk(b.ctx, lineage.Question{Root: twice, Fan: fan, Direction: lineage.Down, Depth: 1})
			b.must(err)
			if want := 1 + min(fan, 40); len(g.Nodes) != want || g.Cut[twice] != cut {
				b.Errorf("used twice by each, fan %d: %d nodes, cut %v; want %d, %v", fan, len(g.Nodes), g.Cut[twice], want, cut)
			}
		}
		_, err = b.LineageWalk(b.ctx, lineage.Question{Root: id, Depth: 101})
		b.refuses(err, fault.CodeInvalid, "between 1 and 100")
	})
	t.Run("names", func(t *testing.T) {
		b := flow(t)
		for name, text := range map[string]string{
			"no-such": "there is no run, function or artifact", "store://models/default/none": "there is no", "run:default/none": "nothing is known",
			"run:default/c3#x": "", "artifact:default/clean": "", "s3://lake/other": "nothing is known", "db://default/none": "there is no function",
		} {
			if id, err := b.LineageFind(b.ctx, "default", name); err == nil || !strings.Contains(err.Error(), text) || !fault.Is(err, fault.CodeNotFound) && !fault.Is(err, fault.CodeInvalid) {
				b.Errorf("%s: %q, %v", name, id, err)
			}
		}
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		if _, err := b.LineageWalk(ctx, lineage.Question{Root: "run:default/c3"}); err == nil {
			b.Error("a cancelled walk answers")
		}
	})
}

func without(list []string, prefixes ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
	})
}

func anyStrings(list []string) []any {
	list = slices.Sorted(slices.Values(list))
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
