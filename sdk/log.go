package sdk

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// records are the log records of one event for its caller. A nil one has none.
type records struct {
	level slog.Level

	mu    sync.Mutex
	lines []map[string]any
}

func newRecords(level string) *records {
	r := &records{}
	switch strings.ToLower(level) {
	case "debug":
		r.level = slog.LevelDebug
	case "warn", "warning":
		r.level = slog.LevelWarn
	case "error", "critical":
		r.level = slog.LevelError
	}
	return r
}

func (r *records) list() []map[string]any {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines
}

// capture passes records on and keeps those for the caller.
type capture struct {
	slog.Handler
	records *records
	fields  []slog.Attr // of With, names with those of their groups
	group   string
}

// Handle implements slog.Handler.
func (c *capture) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= c.records.level {
		line := map[string]any{}
		for _, field := range c.fields {
			line[field.Key] = field.Value.Resolve().String()
		}
		record.Attrs(func(field slog.Attr) bool {
			line[c.group+field.Key] = field.Value.Resolve().String()
			return true
		})
		line["level"], line["message"] = strings.ToLower(record.Level.String()), record.Message
		line["time"], line["name"] = record.Time.UnixMilli(), ""
		c.records.mu.Lock()
		c.records.lines = append(c.records.lines, line)
		c.records.mu.Unlock()
	}
	return c.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (c *capture) WithAttrs(fields []slog.Attr) slog.Handler {
	next := *c
	next.Handler = c.Handler.WithAttrs(fields)
	next.fields = append([]slog.Attr{}, c.fields...)
	for _, field := range fields {
		field.Key = c.group + field.Key
		next.fields = append(next.fields, field)
	}
	return &next
}

// WithGroup implements slog.Handler.
func (c *capture) WithGroup(name string) slog.Handler {
	next := *c
	next.Handler = c.Handler.WithGroup(name)
	next.group = c.group + name + "."
	return &next
}
