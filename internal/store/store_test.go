package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

func TestThin(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(t.TempDir(), "a.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hash, err := s.FunctionPut(ctx, store.FunctionPut{Project: "default", Name: "f", Versioned: true, Doc: document.Object{"kind": "job"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.FunctionGet(ctx, "default", "f", "", hash)
	fmt.Println(d, err)
	l, m, err := s.FunctionList(ctx, store.FunctionFilter{Project: "default"})
	fmt.Println(l, m, err)
	k := run.Key{Project: "default", UID: "u"}
	st, err := s.RunPut(ctx, k, document.Object{"metadata": document.Object{"name": "r", "labels": document.Object{"a": "b"}}})
	fmt.Println(st, err)
	st, err = s.RunUpdate(ctx, k, document.Object{"status.state": "completed"})
	fmt.Println(string(document.Encode(st)), err)
	for _, f := range []store.RunFilter{{Project: "default"}, {Project: "*", Limit: 1}, {Project: "default", Labels: []store.LabelFilter{{Key: "a", Value: "b", HasValue: true}}},
		{Project: "default", States: []string{"completed", "error"}, Page: store.Page{Size: 3}}, {Project: "default", Labels: []store.LabelFilter{{Key: "a"}}, Name: store.NameFilter{Value: "R", Contains: true}},
		{Project: "default", StartFrom: time.Now().Add(-time.Hour), Partition: &store.RunPartition{SortByUpdated: true, Rows: 1, Max: 2}},
		{Project: "*", StartFrom: time.Now().Add(-time.Hour), Partition: &store.RunPartition{ByProject: true, Rows: 1, Max: 2}}} {
		l, m, err := s.RunList(ctx, f)
		fmt.Println(len(l), m, err)
	}
	if err := s.ExecutionCreate(ctx, store.Execution{ID: "u-1", Project: "default", UID: "u", Attempt: 1, Phase: "queued"}); err != nil {
		t.Fatal(err)
	}
	fmt.Println(s.ExecutionActive(ctx))
	fmt.Println(s.ProjectSummary(ctx, "default"))
}
