package store

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		{"latest of names", RunFilter{Project: "default", Partition: latest, Page: page}, []string{"SEARCH n USING COVERING INDEX runs_name (project=? AND name>?)", "SEARCH x USING COVERING INDEX runs_name_updated (project=? AND name=?)", "SEARCH y USING INTEGER PRIMARY KEY"}},
		{"latest of names since", RunFilter{Project: "default", StartFrom: time.Now(), Partition: latest, Page: page}, []string{"SEARCH e USING COVERING INDEX runs_name (project=? AND name=? AND start_time>?)", "SEARCH x USING COVERING INDEX runs_name_updated (project=? AND name=?)"}},
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
			plan := strings.Join(steps, "\n")
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
		})
	}
}
