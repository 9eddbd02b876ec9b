package api

import (
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/store"
)

// taskWindow is how far back a list of tasks goes unless told otherwise.
const taskWindow = 7 * 24 * time.Hour

func taskGet(c *call) error {
	task, err := c.s.opts.Store.TaskGet(c.ctx(), c.path("project"), c.path("name"))
	if err != nil {
		return err
	}
	return c.json(200, task)
}

func taskList(c *call) error {
	filter := store.TaskFilter{Project: c.path("project"), State: c.str("state"), Kind: c.str("kind")}
	for _, window := range []struct {
		name string
		into *time.Time
	}{
		{"created_from", &filter.CreatedFrom}, {"created_to", &filter.CreatedTo},
		{"last_update_time_from", &filter.UpdatedFrom}, {"last_update_time_to", &filter.UpdatedTo},
	} {
		var err error
		if *window.into, err = c.time(window.name); err != nil {
			return err
		}
	}
	if filter.CreatedFrom.IsZero() && filter.CreatedTo.IsZero() && filter.UpdatedFrom.IsZero() && filter.UpdatedTo.IsZero() {
		filter.CreatedFrom = time.Now().Add(-taskWindow)
	}
	tasks, err := c.s.opts.Store.TaskList(c.ctx(), filter)
	if err != nil {
		return err
	}
	if name := c.str("name"); name != "" {
		kept := tasks[:0]
		for _, task := range tasks {
			if document.String(task, "metadata", "name") == name {
				kept = append(kept, task)
			}
		}
		tasks = kept
	}
	return c.json(200, document.Object{"background_tasks": list(tasks)})
}

// list makes an empty list of nil, so that it is written as [].
func list(items []document.Object) []document.Object {
	if items == nil {
		return []document.Object{}
	}
	return items
}
