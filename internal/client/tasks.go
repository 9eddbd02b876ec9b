package client

import (
	"context"
	"net/http"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Task returns a background task; project "" means a global one.
func (c *Client) Task(ctx context.Context, project, name string) (document.Object, error) {
	path := segments(v1+"/background-tasks", name)
	if project != "" {
		path = segments(v1+"/projects", project, "background-tasks", name)
	}
	return c.object(ctx, &request{method: http.MethodGet, path: path})
}

// AwaitTask polls a background task until it is over; a failed one is an error of
// its own words.
func (c *Client) AwaitTask(ctx context.Context, project, name string) error {
	pause := 20 * time.Millisecond
	for {
		task, err := c.Task(ctx, project, name)
		if err != nil {
			return err
		}
		switch document.String(task, "status", "state") {
		case "succeeded":
			return nil
		case "failed":
			text := document.String(task, "status", "error")
			if text == "" {
				text = "the background task " + name + " failed without saying why"
			}
			return &fault.Error{Code: fault.CodeInvalid, Message: unwrapClass(text)}
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(pause*2, time.Second)
	}
}

// awaitAnswer waits for the background task of a 202; any other success is done.
func (c *Client) awaitAnswer(ctx context.Context, project string, status int, raw []byte) error {
	if status != http.StatusAccepted {
		return nil
	}
	task, err := document.DecodeObject(raw)
	if err != nil {
		return nil // accepted without a task: nothing to wait for
	}
	name := document.String(task, "metadata", "name")
	if name == "" {
		return nil
	}
	return c.AwaitTask(ctx, project, name)
}

// sleep waits for d or for the end of ctx, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
