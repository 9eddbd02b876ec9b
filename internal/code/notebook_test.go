package code

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cellsToNotebook makes a notebook of a text in which "# %%" lines begin cells, with
// [markdown] or [raw] for other cells and tags=… for a tag.
func cellsToNotebook(text string) []byte {
	var cells []any
	for i, part := range strings.Split("\n"+strings.TrimSuffix(text, "\n"), "\n# %%") {
		if i == 0 {
			continue
		}
		header, body, _ := strings.Cut(part, "\n")
		cell := map[string]any{"cell_type": "code", "metadata": map[string]any{}, "outputs": []any{}, "execution_count": nil}
		for _, word := range strings.Fields(header) {
			if tag, ok := strings.CutPrefix(word, "tags="); ok {
				cell["metadata"] = map[string]any{"tags": []string{tag}}
			} else {
				cell["cell_type"] = strings.Trim(word, "[]")
			}
		}
		if i%2 == 0 { // both forms of a cell's text, and both line ends
			cell["source"] = strings.ReplaceAll(body, "\n", "\r\n")
		} else {
			cell["source"] = strings.SplitAfter(body, "\n")
		}
		cells = append(cells, cell)
	}
	data, _ := json.Marshal(map[string]any{
		"nbformat": 4, "nbformat_minor": 5, "cells": cells,
		"metadata": map[string]any{"kernelspec": map[string]any{"language": "python", "name": "python3"}},
	})
	return data
}

func TestNotebooks(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/notebooks/*.cells")
	if err != nil || len(files) < 19 {
		t.Fatalf("found %d notebooks: %v", len(files), err)
	}
	getenv := func(key string) string { return map[string]string{"PANDAS": "2.2"}[key] }
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			cells, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			nb, err := convert("nb.ipynb", cellsToNotebook(string(cells)), "my_fn", Options{IgnoredTags: []string{"skip-me"}, Getenv: getenv})
			got := ""
			if err != nil {
				if !fault.Is(err, fault.CodeInvalid) {
					t.Errorf("not the caller's fault: %v", err)
				}
				got = "error: " + err.Error() + "\n"
			} else {
				got = string(nb.source)
				if lines := strings.Count(got, "\n"); lines != len(nb.position) {
					t.Errorf("%d lines and %d positions", lines, len(nb.position))
				}
				f := function.New(function.KindJob, "x")
				if err := nb.config.apply(f); err != nil {
					t.Fatal(err)
				}
				if spec := document.Map(f.Doc, "spec"); len(spec) > 0 {
					text, err := function.EncodeYAML(spec)
					if err != nil {
						t.Fatal(err)
					}
					got += "---- spec\n" + string(text)
				}
			}
			golden := strings.TrimSuffix(file, ".cells") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNotebooksThatAreNot(t *testing.T) {
	t.Parallel()
	for in, say := range map[string]string{
		``:                               "is not a notebook",
		`{`:                              "is not a notebook: malformed JSON",
		`[]`:                             "must be a JSON object",
		`{}`:                             "has no nbformat",
		`{"nbformat":4}`:                 "no list of cells",
		`{"nbformat":"4","cells":[]}`:    "no nbformat",
		`{"nbformat":3,"worksheets":[]}`: "format 3; convert it to format 4",
		`{"nbformat":4,"cells":[3]}`:     "cell 1 must be an object",
		`{"nbformat":4,"cells":[{"cell_type":"code","source":3}]}`:                "cell 1: source must be a string",
		`{"nbformat":4,"cells":[{"cell_type":"code","source":[3]}]}`:              "cell 1: source must be a list of strings",
		`{"nbformat":4,"cells":[{"source":"\u0000"}]}`:                            "zero byte",
		`{"nbformat":4,"cells":[],"metadata":{"kernelspec":{"language":"R"}}}`:    "notebook in R",
		`{"nbformat":4,"cells":[],"metadata":{"language_info":{"name":"julia"}}}`: "notebook in julia",
	} {
		if _, err := Convert("x.ipynb", []byte(in), "x"); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want %q", in, err, say)
		}
	}
}

func FuzzConvert(f *testing.F) {
	files, _ := filepath.Glob("testdata/notebooks/*.cells")
	for _, file := range files {
		cells, _ := os.ReadFile(file)
		f.Add(string(cells))
	}
	f.Fuzz(func(t *testing.T, cells string) {
		source, err := Convert("x.ipynb", cellsToNotebook(cells), "my-fn")
		if err != nil && !fault.Is(err, fault.CodeInvalid) {
			t.Fatalf("not the caller's fault: %v", err)
		}
		if err == nil && !strings.HasPrefix(string(source), "# Converted from x.ipynb\n\n") {
			t.Fatalf("no header in %q", source)
		}
		if _, err := Convert("x.ipynb", []byte(cells), "x"); err == nil && !json.Valid([]byte(cells)) && !strings.Contains(cells, "NaN") && !strings.Contains(cells, "Infinity") {
			t.Fatalf("read a notebook that is not JSON: %q", cells)
		}
		var syntax *SyntaxError
		if errors.As(err, &syntax) {
			t.Fatal("conversion parses no Python")
		}
	})
}
