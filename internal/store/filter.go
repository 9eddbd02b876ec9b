package store

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// conditions collects the WHERE clause of a list. Values go into args, never into
// the text; column names come from this package only.
type conditions struct {
	dialect *dialect
	parts   []string
	args    []any
}

func (c *conditions) add(condition string, args ...any) {
	c.parts = append(c.parts, condition)
	c.args = append(c.args, args...)
}

// equal adds nothing for an empty value.
func (c *conditions) equal(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// in adds nothing for an empty list.
func (c *conditions) in(column string, values []string) {
	switch len(values) {
	case 0:
	case 1:
		c.add(column+" = ?", values[0])
	default:
		args := make([]any, len(values))
		for i, value := range values {
			args[i] = value
		}
		c.add(column+" IN ("+marks(len(values))+")", args...)
	}
}

// contains is a case-insensitive substring match in which no character is
// special. Both databases fold the 26 ASCII letters only.
func (c *conditions) contains(column, value string) {
	if c.dialect.postgres {
		c.add(`position(lower(? COLLATE "C") in lower(`+column+` COLLATE "C")) > 0`, value)
		return
	}
	c.add("instr(lower("+column+"), lower(?)) > 0", value)
}

func (c *conditions) name(column string, filter NameFilter) {
	switch {
	case filter.Value == "":
	case filter.Contains:
		c.contains(column, filter.Value)
	default:
		c.add(column+" = ?", filter.Value)
	}
}

// between adds the bounds that are not zero; both are inclusive.
func (c *conditions) between(column string, from, to time.Time) {
	if !from.IsZero() {
		c.add(column+" >= ?", from.UnixMicro())
	}
	if !to.IsZero() {
		c.add(column+" <= ?", to.UnixMicro())
	}
}

// labels adds a condition for each filter on the labels column of the table
// called alias.
func (c *conditions) labels(alias string, filters []LabelFilter) {
	for _, filter := range reduce(filters) {
		inner := conditions{dialect: c.dialect}
		inner.label("l.key", "l.value", filter)
		c.add("EXISTS (SELECT 1 FROM "+fmt.Sprintf(c.dialect.labels, alias)+" l WHERE "+strings.Join(inner.parts, " AND ")+")", inner.args...)
	}
}

// label compares the columns key and value with one filter.
func (c *conditions) label(key, value string, filter LabelFilter) {
	if filter.KeyContains {
		c.contains(key, filter.Key)
	} else {
		c.add(key+" = ?", filter.Key)
	}
	switch {
	case !filter.HasValue:
	case filter.ValueContains:
		c.contains(value, filter.Value)
	default:
		c.add(value+" = ?", filter.Value)
	}
}

// reduce drops filters that others make superfluous: duplicates, and "k" beside
// "k=v".
func reduce(filters []LabelFilter) []LabelFilter {
	var out []LabelFilter
	for _, f := range filters {
		weaker := !f.HasValue && slices.ContainsFunc(filters, func(o LabelFilter) bool {
			return o.HasValue && o.Key == f.Key && o.KeyContains == f.KeyContains
		})
		if !weaker && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

func (c *conditions) where() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

// window returns LIMIT and OFFSET for a page, asking for one row more than it
// has, which is how more is found out. limit bounds the whole list; 0 does not.
func window(page Page, limit int) (clause string, args []any) {
	size := int64(page.Size)
	if size > 0 {
		size++
	}
	if limit > 0 {
		if left := int64(max(limit-page.Offset, 0)); size == 0 || left < size {
			size = left
		}
	}
	switch {
	case size > 0 || limit > 0:
		return " LIMIT ? OFFSET ?", []any{size, page.Offset}
	case page.Offset > 0:
		return " LIMIT ? OFFSET ?", []any{int64(1) << 62, page.Offset}
	}
	return "", nil
}

// cut takes the row off again that window asked for beyond the page.
func cut[T any](items []T, page Page) ([]T, bool) {
	if page.Size > 0 && len(items) > page.Size {
		return items[:page.Size], true
	}
	return items, false
}

// labelText renders labels for their column, "{}" for none.
func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return "{}"
	}
	return string(document.Encode(labels))
}

// checkIndexed refuses texts that databases do not index or keep.
func checkIndexed(field, text string) error {
	if len(text) > 1000 || strings.ContainsRune(text, 0) {
		return fault.Invalid("%s %q is too long or contains a NUL character; at most 1000 bytes are allowed", field, clip(text))
	}
	return nil
}
