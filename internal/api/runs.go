package api

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// runKey reads which run the call is about.
func (c *call) runKey() (run.Key, error) {
	iter, err := c.iter()
	return run.Key{Project: c.path("project"), UID: c.path("uid"), Iter: iter}, err
}

func runPut(c *call) error {
	key, err := c.runKey()
	if err != nil {
		return err
	}
	doc, err := c.object()
	if err != nil {
		return err
	}
	if _, err := c.s.opts.Store.RunPut(c.ctx(), key, c.masker(key.UID).Object(doc)); err != nil {
		return err
	}
	return c.done()
}

// runUpdate applies dotted updates. Setting status.state to aborted is how
// clients before 1.6 abort; it is a plain update here, because the run's own
// process writes it too.
func runUpdate(c *call) error {
	key, err := c.runKey()
	if err != nil {
		return err
	}
	updates, err := c.object()
	if err != nil {
		return err
	}
	if _, err := c.s.opts.Store.RunUpdate(c.ctx(), key, c.masker(key.UID).Object(updates)); err != nil {
		return err
	}
	return c.done()
}

func runGet(c *call) error {
	key, err := c.runKey()
	if err != nil {
		return err
	}
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	doc, err := c.s.opts.Store.RunGet(c.ctx(), key)
	if err != nil {
		return err
	}
	switch format {
	case "full":
		artifacts, err := c.s.opts.Store.ArtifactsOfRun(c.ctx(), key)
		if err != nil {
			return err
		}
		if len(artifacts) > 0 {
			document.Set(doc, anyList(artifacts), "status", "artifacts")
		}
		c.infer(doc)
	case "notifications":
		addNotifications(doc)
	}
	return c.json(200, document.Object{"data": doc})
}

func anyList(docs []document.Object) []any {
	out := make([]any, len(docs))
	for i, doc := range docs {
		out[i] = doc
	}
	return out
}

// addNotifications fills status.notifications from what the run asks for. None
// has been sent, since only clients send notifications.
func addNotifications(doc document.Object) {
	for _, item := range document.List(doc, "spec", "notifications") {
		notification, _ := item.(document.Object)
		name := document.String(notification, "name")
		if name == "" || document.Get(doc, "status", "notifications", name) != nil {
			continue
		}
		document.Set(doc, document.Object{"status": "pending", "sent_time": nil, "reason": nil}, "status", "notifications", name)
	}
}

func runList(c *call) error { return c.listRuns(nil) }

func runListCompleted(c *call) error { return c.listRuns([]string{string(run.Completed)}) }

func (c *call) listRuns(states []string) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	filter, err := c.runFilter()
	if err != nil {
		return err
	}
	if states != nil {
		filter.States = states
	}
	if _, err := c.enum("format", "standard"); err != nil {
		return err
	}
	return c.writePage("runs", p, func(window store.Page) ([]document.Object, bool, error) {
		filter.Page = window
		docs, more, err := c.s.opts.Store.RunList(c.ctx(), filter)
		return list(docs), more, err
	})
}

// recent is how far back a list of runs goes that has no filter at all.
const recent = 7 * 24 * time.Hour

// runFilter reads the filters of a list of runs.
func (c *call) runFilter() (store.RunFilter, error) {
	filter := store.RunFilter{
		Project: c.runsProject(), Name: parseName(c.str("name")), UIDs: c.strs("uid"),
		States: append(c.strs("state"), c.strs("states")...),
	}
	var err error
	if filter.Labels, err = parseLabels(c.strs("label")); err != nil {
		return filter, err
	}
	for _, state := range filter.States {
		if !run.State(state).Known() {
			return filter, fault.Invalid("parameter state must be one of %v, got %q", run.States(), clip(state))
		}
	}
	if filter.WithChildren, err = c.bool("iter", true); err != nil {
		return filter, err
	}
	sort, err := c.bool("sort", true)
	if err != nil {
		return filter, err
	}
	filter.Unsorted = !sort
	last, err := c.int("last", 0)
	if err != nil {
		return filter, err
	}
	if filter.Limit = int(min(last, maxPageNumber)); filter.Limit > 0 && !sort {
		return filter, fault.Invalid("parameter last needs sort; leave sort out or set it to true")
	}
	if err := c.runTimes(&filter); err != nil {
		return filter, err
	}
	if filter.Partition, err = c.partition(); err != nil {
		return filter, err
	}
	if notified, err := c.bool("with-notifications", false); err != nil {
		return filter, err
	} else if notified {
		return filter, fault.NotSupported("this server sends no notifications, so it cannot select runs by them; leave with-notifications out")
	}
	if filter.Partition == nil && !filter.WithChildren && filter.Name.Value == "" && unfiltered(filter) {
		filter.StartFrom = time.Now().Add(-recent)
		filter.Partition = &store.RunPartition{ByProject: true, SortByUpdated: true, Rows: 1}
	}
	return filter, nil
}

// runsProject is the project in the path, or that of the query in older paths.
func (c *call) runsProject() string {
	if project := c.path("project"); project != "" {
		return project
	}
	if project := c.str("project"); project != "" {
		return project
	}
	return defaultProject
}

// defaultProject is where requests go that name no project.
const defaultProject = "default"

func unfiltered(f store.RunFilter) bool {
	return len(f.UIDs) == 0 && len(f.States) == 0 && len(f.Labels) == 0 && f.StartFrom.IsZero() && f.StartTo.IsZero() &&
		f.UpdatedFrom.IsZero() && f.UpdatedTo.IsZero() && f.EndFrom.IsZero() && f.EndTo.IsZero()
}

func (c *call) runTimes(filter *store.RunFilter) error {
	for _, window := range []struct {
		name string
		into *time.Time
	}{
		{"start_time_from", &filter.StartFrom}, {"start_time_to", &filter.StartTo},
		{"last_update_time_from", &filter.UpdatedFrom}, {"last_update_time_to", &filter.UpdatedTo},
		{"end_time_from", &filter.EndFrom}, {"end_time_to", &filter.EndTo},
	} {
		var err error
		if *window.into, err = c.time(window.name); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) partition() (*store.RunPartition, error) {
	by, err := c.enum("partition-by", "")
	if err != nil || by == "" {
		return nil, err
	}
	sort, err := c.enum("partition-sort-by", "")
	if err != nil {
		return nil, err
	}
	if sort == "" {
		return nil, fault.Invalid("parameter partition-by needs partition-sort-by, created or updated")
	}
	order, err := c.enum("partition-order", "desc")
	if err != nil {
		return nil, err
	}
	rows, err := c.int("rows-per-partition", 1)
	if err != nil {
		return nil, err
	}
	most, err := c.int("max-partitions", 0)
	if err != nil {
		return nil, err
	}
	return &store.RunPartition{
		ByProject: by == "project_and_name", SortByUpdated: sort == "updated", Ascending: order == "asc",
		Rows: int(min(rows, maxPageNumber)), Max: int(min(most, maxPageNumber)),
	}, nil
}

// runDelete deletes all iterations of a run; a missing run is no error.
func runDelete(c *call) error {
	if _, err := c.iter(); err != nil {
		return err
	}
	c.discard()
	control, err := c.controller()
	if err != nil {
		return err
	}
	if err := control.DeleteRun(c.ctx(), c.path("project"), c.path("uid")); err != nil {
		return err
	}
	return c.done()
}

// runDeleteMany deletes every run that matches. Runs that cannot be deleted stay,
// the others go, and the answer says how many stayed.
func runDeleteMany(c *call) error {
	filter := store.RunFilter{Name: parseName(c.str("name")), States: c.strs("state")}
	if slices.Contains(filter.States, string(run.Running)) || slices.Contains(filter.States, string(run.Pending)) {
		return fault.Invalid("runs in state running or pending can not be deleted; abort them first")
	}
	var err error
	if filter.Labels, err = parseLabels(c.strs("label")); err != nil {
		return err
	}
	days, err := c.int("days_ago", 0)
	if err != nil {
		return err
	}
	if days > 0 {
		filter.StartFrom = time.Now().AddDate(0, 0, -int(min(days, 1<<20)))
	}
	c.discard()
	control, err := c.controller()
	if err != nil {
		return err
	}
	failed, first := 0, error(nil)
	projects := c.strs("project")
	if c.path("project") != "" || len(projects) == 0 {
		projects = []string{c.runsProjectPath()}
	}
	for _, project := range projects {
		filter.Project = project
		n, err := c.deleteRuns(control, filter)
		if n > 0 && first == nil {
			first = err
		} else if n == 0 && err != nil {
			return err
		}
		failed += n
	}
	if failed > 0 {
		return fault.Invalid("%d of the matching runs could not be deleted; the first because: %w", failed, first)
	}
	return c.done()
}

// runsProjectPath is the project in the path, or the default one.
func (c *call) runsProjectPath() string {
	if project := c.path("project"); project != "" {
		return project
	}
	return defaultProject
}

// deleteRuns deletes what matches, page by page, and returns how many runs could
// not be deleted with the first reason. An error without a count is one of reading.
func (c *call) deleteRuns(control Controller, filter store.RunFilter) (failed int, first error) {
	filter.Unsorted = true
	filter.Page.Size = 200
	for {
		filter.Page.Offset = failed // what was deleted is gone from the list
		docs, more, err := c.s.opts.Store.RunList(c.ctx(), filter)
		if err != nil {
			return 0, fmt.Errorf("list runs to delete: %w", err)
		}
		for _, doc := range docs {
			project, uid := document.String(doc, "metadata", "project"), document.String(doc, "metadata", "uid")
			if err := control.DeleteRun(c.ctx(), project, uid); err != nil {
				if c.ctx().Err() != nil || !fault.Is(err, fault.CodeInvalid) {
					return 0, err
				}
				failed++
				if first == nil {
					first = err
				}
			}
		}
		if !more {
			return failed, first
		}
	}
}

// runAbort answers 202 with a background task, whatever becomes of the abort.
func runAbort(c *call) error {
	key, err := c.runKey()
	if err != nil {
		return err
	}
	updates, err := c.object()
	if err != nil {
		return err
	}
	control, err := c.controller()
	if err != nil {
		return err
	}
	task, err := control.Abort(c.ctx(), key, updates)
	if err != nil {
		return err
	}
	return c.json(202, task)
}

// notificationsPut replaces spec.notifications of a run.
func notificationsPut(c *call) error {
	key := run.Key{Project: c.path("project"), UID: c.path("uid")}
	doc, err := c.object()
	if err != nil {
		return err
	}
	items, err := document.Want[[]any](doc, "notifications")
	if err != nil {
		return err
	}
	if err := checkNotifications(items); err != nil {
		return err
	}
	if items == nil {
		items = []any{}
	}
	if _, err := c.s.opts.Store.RunUpdate(c.ctx(), key, document.Object{"spec.notifications": items}); err != nil {
		return err
	}
	return c.silent(200)
}

// checkNotifications checks shapes and fills the defaults.
func checkNotifications(items []any) error {
	seen := map[string]bool{}
	for i, item := range items {
		notification, ok := item.(document.Object)
		if !ok {
			return fault.Invalid("notifications[%d] must be an object, got %s", i, document.TypeName(item))
		}
		name, err := document.Want[string](notification, "name")
		if err != nil {
			return fmt.Errorf("notifications[%d]: %w", i, err)
		}
		if name == "" || seen[name] {
			return fault.Invalid("notifications[%d].name %q must be there and unique", i, clip(name))
		}
		seen[name] = true
		if when, ok := notification["when"].(string); ok {
			notification["when"] = []any{when}
		}
		for key, value := range map[string]string{"severity": "info", "status": "pending"} {
			if notification[key] == nil {
				notification[key] = value
			}
		}
	}
	return nil
}
