package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// IterationFilter selects iterations of a run; zero fields do not filter.
type IterationFilter struct {
	States []string
	Sort   IterationSort
	Page   Page
}

// IterationSort is the order of a list of iterations. Those with the same value,
// and those without one, which come last, are in the order of their numbers.
type IterationSort struct {
	Section    string // param or output; "" for the number of the iteration
	Name       string // of a parameter or result; one of an object is named with dots
	Descending bool
}

// ParseIterationSort reads iter, param.NAME or output.NAME, each with "-" before
// it for descending; "" is iter.
func ParseIterationSort(text string) (IterationSort, error) {
	rest, descending := strings.CutPrefix(text, "-")
	if rest == "" && !descending || rest == "iter" {
		return IterationSort{Descending: descending}, nil
	}
	section, name, _ := strings.Cut(rest, ".")
	if name == "" || section != "param" && section != "output" {
		return IterationSort{}, fault.Invalid("sort must be iter, param.NAME or output.NAME, with - before it from the largest, got %.80q", text)
	}
	if strings.ContainsAny(name, "\"\\\x00") {
		return IterationSort{}, fault.Invalid("sort: %.80q cannot be sorted by, it has a quotation mark, a backslash or a zero byte", name)
	}
	return IterationSort{Section: section, Name: name, Descending: descending}, nil
}

// sections are where a run's document has what is sorted by.
var sections = map[string][]string{"param": {"spec", "parameters"}, "output": {"status", "results"}}

// value is the expression for what is sorted by, of the table runs: NULL where it
// is missing. A name with dots may be a key or a way into objects.
func (s IterationSort) value(postgres bool) (expression string, args []any) {
	section := sections[s.Section]
	for _, keys := range [][]string{{s.Name}, strings.Split(s.Name, ".")} {
		keys = append(section[:len(section):len(section)], keys...)
		if postgres {
			quoted := make([]string, len(keys))
			for i, key := range keys {
				quoted[i] = `"` + key + `"`
			}
			args = append(args, "{"+strings.Join(quoted, ",")+"}")
		} else {
			args = append(args, `$."`+strings.Join(keys, `"."`)+`"`)
		}
	}
	if postgres {
		return "NULLIF(COALESCE(doc::jsonb #> ?::text[], doc::jsonb #> ?::text[]), 'null'::jsonb)", args
	}
	return "COALESCE(json_extract(doc, ?), json_extract(doc, ?))", args
}

// RunIterations calls yield for iterations of the run that key names, and says
// whether more follow those of the page. However many there are, few are in memory
// at once. An error of yield ends it and is returned; fault.CodeNotFound when there
// is no such run.
func (s *Store) RunIterations(ctx context.Context, key run.Key, filter IterationFilter, yield func(document.Object) error) (more bool, err error) {
	key.Iter = 0
	var there int
	if found, err := s.read.row(ctx, []any{&there}, `SELECT 1 FROM runs WHERE project = ? AND uid = ? AND iter = 0`, key.Project, key.UID); err != nil || !found {
		if err == nil {
			err = runMissing(key)
		}
		return false, err
	}
	query, args := s.read.iterationOrder(key, filter)
	var ids []any
	if err := s.read.each(ctx, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, query, args...); err != nil {
		return false, wrap(err, "list iterations of run %s", clip(key.String()))
	}
	ids, more = cut(ids, filter.Page)
	for len(ids) > 0 {
		n := min(len(ids), iterationChunk)
		if err := s.read.iterations(ctx, ids[:n], yield); err != nil {
			return false, wrap(err, "list iterations of run %s", clip(key.String()))
		}
		ids = ids[n:]
	}
	return more, nil
}

// iterationChunk is how many iterations are read at once.
const iterationChunk = 500

// iterations yields the rows with these ids in this order; one that was deleted
// meanwhile is left out.
func (v view) iterations(ctx context.Context, ids []any, yield func(document.Object) error) error {
	docs := make(map[int64]document.Object, len(ids))
	if err := v.each(ctx, func(rows *sql.Rows) error {
		var id int64
		var text sql.RawBytes
		if err := rows.Scan(&id, &text); err != nil {
			return err
		}
		doc, err := decode(text)
		docs[id] = doc
		return err
	}, `SELECT id, doc FROM runs WHERE id IN (`+marks(len(ids))+`)`, ids...); err != nil {
		return err
	}
	for _, id := range ids {
		if doc := docs[id.(int64)]; doc != nil {
			if err := yield(doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// iterationOrder is the query of the ids of a list.
func (v view) iterationOrder(key run.Key, filter IterationFilter) (string, []any) {
	c := conditions{dialect: v.dialect}
	c.add("project = ?", key.Project)
	c.add("uid = ?", key.UID)
	c.add("iter > 0")
	c.in("state", filter.States)
	direction := " ASC"
	if filter.Sort.Descending {
		direction = " DESC"
	}
	limit, limitArgs := window(filter.Page, 0)
	if filter.Sort.Section == "" {
		return `SELECT id FROM runs` + c.where() + ` ORDER BY iter` + direction + limit, append(c.args, limitArgs...)
	}
	value, args := filter.Sort.value(v.dialect.postgres)
	// Numbers before texts in either direction; a boolean is a number, as in Python.
	order := `v IS NULL, typeof(v) = 'text', v` + direction
	if v.dialect.postgres {
		order = `v IS NULL, jsonb_typeof(v) NOT IN ('number', 'boolean'),
			CASE jsonb_typeof(v) WHEN 'number' THEN (v #>> '{}')::numeric WHEN 'boolean' THEN (v::boolean)::int::numeric END` + direction + `,
			(v #>> '{}') COLLATE "C"` + direction
	}
	query := `SELECT id FROM (SELECT id, iter, ` + value + ` AS v FROM runs` + c.where() + `) w ORDER BY ` + order + `, iter` + limit
	return query, append(append(args, c.args...), limitArgs...)
}
