package store

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
)

// TestPlans looks at how SQLite goes about the lists that have to be fast with a
// million runs: along an index in the order of the list, never through a table.
func TestPlans(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "a.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range []string{"a", "b"} {
		if _, err := s.RunPut(t.Context(), run.Key{Project: "default", UID: name}, document.Object{"metadata": document.Object{"name": name, "labels": document.Object{"k": "v"}}}); err != nil {
			t.Fatal(err)
		}
	}
	page := Page{Size: 20}
	label := []LabelFilter{{Key: "k", Value: "v", HasValue: true}}
	latest := &RunPartition{ByProject: true, SortByUpdated: true, Rows: 1}
	for _, c := range []struct {
		name   string
		filter RunFilter
		want   []string // what the plan has to mention
	}{
		{"newest", RunFilter{Project: "default", Page: page}, []string{"runs_start (project=?)"}},
		{"with children", RunFilter{Project: "default", WithChildren: true, Page: page}, []string{"runs_start_all (project=?)"}},
		{"all projects", RunFilter{Page: page}, []string{"runs_start_global"}},
		{"name", RunFilter{Project: "default", Name: NameFilter{Value: "n"}, Page: page}, []string{"runs_name (project=? AND name=?)"}},
		{"state", RunFilter{Project: "default", States: []string{"running"}, Page: page}, []string{"runs_state (project=? AND state=?)"}},
		{"states", RunFilter{Project: "default", States: []string{"running", "error"}, Page: page}, []string{"runs_state (project=? AND state=?)"}},
		{"since", RunFilter{Project: "default", StartFrom: time.Now(), Page: page}, []string{"runs_start (project=? AND start_time>?)"}},
		{"label", RunFilter{Project: "default", Labels: label, Page: page}, []string{"SEARCH x USING PRIMARY KEY (project=? AND key=? AND value=? AND child=?)", "SEARCH r USING INTEGER PRIMARY KEY"}},
		{"uid", RunFilter{Project: "default", UIDs: []string{"a"}, Page: page}, []string{"(project=? AND uid=?"}},
		{"latest of names", RunFilter{Project: "default", Partition: latest, Page: page}, []string{"SEARCH l USING PRIMARY KEY (project=?)", "SEARCH r USING INTEGER PRIMARY KEY"}},
		{"latest of names since", RunFilter{Project: "default", StartFrom: time.Now(), Partition: latest, Page: page}, []string{"SEARCH l USING PRIMARY KEY (project=?)", "SEARCH x USING COVERING INDEX runs_name_updated (project=? AND name=?)"}},
		{"two of each name", RunFilter{Project: "default", StartFrom: time.Now(), Partition: &RunPartition{SortByUpdated: true, Rows: 2}, Page: page}, []string{"SEARCH names USING PRIMARY KEY (project=?)", "SEARCH e USING COVERING INDEX runs_name (project=? AND name=? AND start_time>?)", "SEARCH x USING COVERING INDEX runs_name_updated (project=? AND name=?)", "SEARCH y USING INTEGER PRIMARY KEY"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var query string
			var args []any
			if c.filter.Partition != nil {
				query, args, err = s.read.runPartitions(t.Context(), c.filter)
			} else {
				query, args, err = s.read.runOrder(t.Context(), c.filter)
			}
			if err != nil {
				t.Fatal(err)
			}
			plan := explain(t, s, query, args)
			steps := strings.Split(plan, "\n")
			for _, want := range c.want {
				if !strings.Contains(plan, want) {
					t.Errorf("the plan does not say %q:\n%s", want, plan)
				}
			}
			for _, step := range steps {
				if strings.HasPrefix(step, "SCAN r") && !strings.Contains(step, "USING") || strings.Contains(step, "TEMP B-TREE") && c.filter.Partition == nil && len(c.filter.UIDs) == 0 && len(c.filter.States) < 2 {
					t.Errorf("the plan has %q:\n%s", step, plan)
				}
			}
			if c.filter.Partition == latest && strings.Index(plan, "TEMP B-TREE") > strings.Index(plan, "SEARCH r USING INTEGER PRIMARY KEY") {
				t.Errorf("all documents are read before the page is cut:\n%s", plan)
			}
		})
	}
}

// TestArtifactPlans is TestPlans for artifacts.
func TestArtifactPlans(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "a.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = s.Tx(t.Context(), func(tx *Tx) error {
		for i := range rareLabel + 10 {
			put := ArtifactPut{Project: "default", Key: fmt.Sprint("k", i), Doc: document.Object{"metadata": document.Object{"key": "k", "labels": document.Object{"all": "x"}}}}
			if i < 5 {
				put.Tag = "rare"
				document.Set(put.Doc, "y", "metadata", "labels", "rare")
			}
			if _, err := tx.ArtifactPut(t.Context(), put); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	label := func(key string) []LabelFilter { return []LabelFilter{{Key: key}} }
	for name, c := range map[string]struct {
		filter ArtifactFilter
		want   string
		sorts  bool
	}{
		"newest":           {ArtifactFilter{}, "SEARCH a USING INDEX artifacts_updated (project=?)", false},
		"frequent tag":     {ArtifactFilter{Tag: "latest"}, "SEARCH t USING COVERING INDEX artifact_tags_name (project=? AND tag=?)", false},
		"rare tag":         {ArtifactFilter{Tag: "rare"}, "SEARCH t USING COVERING INDEX artifact_tags_name (project=? AND tag=?)", false},
		"rare tag, kind":   {ArtifactFilter{Tag: "rare", Kinds: []string{"model"}}, "SEARCH t USING COVERING INDEX artifact_tags_name (project=? AND tag=?)", false},
		"latest of a kind": {ArtifactFilter{Tag: "latest", Kinds: []string{"model"}}, "SEARCH a USING INDEX artifacts_kind (project=? AND kind=?)", false},
		"kind":             {ArtifactFilter{Kinds: []string{"model"}}, "SEARCH a USING INDEX artifacts_kind (project=? AND kind=?)", false},
		"part of a key":    {ArtifactFilter{Name: NameFilter{Value: "x", Contains: true}}, "SEARCH a USING INDEX artifacts_updated (project=?)", false},
		"key":              {ArtifactFilter{Name: NameFilter{Value: "x"}}, "(project=? AND key=?)", true},
		"key and tag":      {ArtifactFilter{Tag: "latest", Name: NameFilter{Value: "x"}}, "(project=? AND key=? AND tag=?)", true},
		"tree":             {ArtifactFilter{Tree: "t"}, "artifacts_tree (project=? AND tree=?)", true},
		"frequent label":   {ArtifactFilter{Labels: label("all")}, "SEARCH a USING INDEX artifacts_updated (project=?)", false},
		"rare label":       {ArtifactFilter{Labels: label("rare")}, "SEARCH a USING INTEGER PRIMARY KEY", true},
		"since":            {ArtifactFilter{Since: time.Now()}, "artifacts_updated (project=? AND updated>?)", false},
		"parent":           {ArtifactFilter{Parent: &artifact.URI{Key: "k"}}, "SEARCH a USING INDEX artifacts_parent (parent_id=?)", true},
		"has children":     {ArtifactFilter{Parent: &artifact.URI{Key: "k"}, Tag: "latest"}, "SEARCH c USING COVERING INDEX artifacts_parent (parent_id=?)", true},
	} {
		t.Run(name, func(t *testing.T) {
			c.filter.Project, c.filter.Page = "default", Page{Size: 20}
			query, args, err := s.read.artifactOrder(t.Context(), c.filter)
			if err != nil {
				t.Fatal(err)
			}
			plan := explain(t, s, query, args)
			if !strings.Contains(plan, c.want) {
				t.Errorf("the plan does not say %q:\n%s", c.want, plan)
			}
			if !c.sorts && (strings.Contains(plan, "B-TREE FOR ORDER BY") || strings.Contains(plan, "FOR RIGHT PART") || strings.Contains(plan, "SCAN a") || strings.Contains(plan, "SCAN t")) {
				t.Errorf("the plan looks at everything:\n%s", plan)
			}
		})
	}
}

// explain returns the steps of a plan, a line each.
func explain(t *testing.T, s *Store, query string, args []any) string {
	t.Helper()
	var steps []string
	err := s.read.each(t.Context(), func(rows *sql.Rows) error {
		var id, parent, unused int
		var step string
		err := rows.Scan(&id, &parent, &unused, &step)
		steps = append(steps, step)
		return err
	}, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}
