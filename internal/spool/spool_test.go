package spool_test

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/spool"
)

func create(t *testing.T) spool.Dir {
	t.Helper()
	dir, err := spool.Create(spool.Root(t.TempDir()), spool.Launch{
		Execution: "u-1", Mode: spool.ModeHandler, Env: []string{"SECRET=s"},
		Run: document.Object{"spec": document.Object{"parameters": document.Object{"x": math.NaN()}}},
	}, map[string][]byte{"code/f.py": []byte("x = 1\n"), "code/run.sh": []byte("#!/bin/sh\n")})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCreateIsCompleteAndOnce(t *testing.T) {
	t.Parallel()
	dir := create(t)
	launch, err := dir.Launch()
	if err != nil || launch.Env[0] != "SECRET=s" {
		t.Fatalf("%+v %v", launch, err)
	}
	if x, ok := document.Get(launch.Run, "spec", "parameters", "x").(float64); !ok || !math.IsNaN(x) {
		t.Errorf("NaN became %v", x)
	}
	if info, _ := os.Stat(filepath.Join(dir.Path, "launch.json")); info.Mode().Perm() != 0o600 {
		t.Errorf("launch.json is %v", info.Mode())
	}
	if info, _ := os.Stat(filepath.Join(dir.Path, "code/run.sh")); info.Mode().Perm() != 0o700 {
		t.Errorf("run.sh is %v", info.Mode())
	}
	again, err := spool.Create(filepath.Dir(dir.Path), spool.Launch{Execution: "u-1", Mode: spool.ModeMain}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if launch, _ := again.Launch(); launch.Mode != spool.ModeHandler {
		t.Error("a second Create decided anew")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir.Path), ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLockIsProofOfLife(t *testing.T) {
	t.Parallel()
	dir := create(t)
	if dir.Alive() {
		t.Fatal("alive before any runner")
	}
	lock, err := dir.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	if !dir.Alive() {
		t.Error("not alive under the lock")
	}
	if _, err := dir.Acquire(); !errors.Is(err, spool.ErrHeld) {
		t.Errorf("second lock: %v", err)
	}
	lock.Release()
	if dir.Alive() {
		t.Error("alive after release")
	}
}

// TestMain makes this binary a runner that holds a lock until its input ends, when
// the environment says so.
func TestMain(m *testing.M) {
	if path := os.Getenv("SPOOL_TEST_HOLD"); path != "" {
		if _, err := (spool.Dir{Path: path}).Acquire(); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLockEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	dir := create(t)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "SPOOL_TEST_HOLD="+dir.Path)
	out, _ := holder.StdoutPipe()
	if _, err := holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 4)); err != nil || n != 4 {
		t.Fatal(n, err)
	}
	if !dir.Alive() {
		t.Error("not alive while another process holds it")
	}
	if _, err := dir.Acquire(); !errors.Is(err, spool.ErrHeld) {
		t.Errorf("taken from another process: %v", err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	if dir.Alive() {
		t.Error("alive after the holder was killed")
	}
}

func TestBeginsOnce(t *testing.T) {
	t.Parallel()
	dir := create(t)
	if dir.Begun() {
		t.Fatal("begun too early")
	}
	if err := dir.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := dir.Begin(); !fault.Is(err, fault.CodeConflict) {
		t.Errorf("second begin: %v", err)
	}
}

func TestJournalIsReadByCompleteLines(t *testing.T) {
	t.Parallel()
	dir := create(t)
	journal, err := dir.OpenJournal()
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	big := strings.Repeat("x", 9<<20)
	_ = journal.Append("started", document.Object{"pid": 7})
	_ = journal.Append("update", document.Object{"iter": 3, "results": document.Object{"big": big}})
	records, next, err := dir.ReadJournal(0)
	if err != nil || len(records) != 1 || records[0].Type != "started" || records[0].Time.IsZero() {
		t.Fatalf("%v %v", records, err)
	}
	records, next, err = dir.ReadJournal(next)
	if err != nil || len(records) != 1 || records[0].Iter != 3 || len(document.String(records[0].Body, "results", "big")) != len(big) {
		t.Fatalf("large record: %d records, %v", len(records), err)
	}
	file, _ := os.OpenFile(filepath.Join(dir.Path, "journal"), os.O_APPEND|os.O_WRONLY, 0)
	_, _ = file.WriteString(`{"t":"en`)
	if records, same, err := dir.ReadJournal(next); err != nil || len(records) != 0 || same != next {
		t.Errorf("torn line: %v %d %v", records, same, err)
	}
	_, _ = file.WriteString("d\",\"state\":\"error\",\"exit\":3}\n")
	file.Close()
	records, _, err = dir.ReadJournal(next)
	if err != nil || len(records) != 1 || records[0].Outcome() != (spool.Outcome{State: "error", Exit: 3}) {
		t.Errorf("%v %v", records, err)
	}
}
