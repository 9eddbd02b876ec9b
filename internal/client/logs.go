package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// LogQuery names a stretch of a run's log, counted in bytes.
type LogQuery struct {
	Project, UID string
	Offset       int64
	Size         int64 // 0 means to the end
	Attempt      int   // 0 means all attempts, or the latest, as the server has it
}

// Log returns a stretch of a run's log and the run's state at that moment. Past
// the end the stretch is empty.
func (c *Client) Log(ctx context.Context, q LogQuery) ([]byte, run.State, error) {
	query := url.Values{"offset": {strconv.FormatInt(q.Offset, 10)}, "size": {"-1"}}
	if q.Size > 0 {
		query.Set("size", strconv.FormatInt(q.Size, 10))
	}
	if q.Attempt > 0 {
		query.Set("attempt", strconv.Itoa(q.Attempt))
	}
	raw, header, _, err := c.read(ctx, &request{method: http.MethodGet, path: segments(v1+"/projects", q.Project, "logs", q.UID), query: query})
	return raw, run.State(header.Get("x-mlrun-run-state")), err
}

// LogSize returns how many bytes a run's log has.
func (c *Client) LogSize(ctx context.Context, project, uid string) (int64, error) {
	answer, err := c.object(ctx, &request{method: http.MethodGet, path: segments(v1+"/projects", project, "logs", uid, "size")})
	if err != nil {
		return 0, err
	}
	size, _ := document.Int(answer, "size")
	return size, nil
}

// PostLog appends to the log of a run that was executed elsewhere.
func (c *Client) PostLog(ctx context.Context, project, uid string, data []byte) error {
	_, err := c.object(ctx, &request{
		method: http.MethodPost, path: segments(v1+"/projects", project, "logs", uid), query: url.Values{"append": {"yes"}}, body: data,
	})
	return err
}

const (
	followChunk    = 1 << 20
	followFastest  = 40 * time.Millisecond
	followSlowest  = time.Second
	followPatience = time.Minute // how long a follower waits for a server that is away
)

// Follower is told what Follow sees, by the goroutine that called it. An error of
// either function ends the following and is returned.
type Follower struct {
	Log   func(data []byte) error          // bytes of the log; valid only during the call
	State func(state run.State) error      // after each look, also when nothing changed; nil: not told
	Lost  func(err error, since time.Time) // the server does not answer; nil: not told
}

// Follow passes a run's log from q.Offset on as it grows, until the run is over
// and its log read to the end, and returns the run's final state. A server that
// goes away is waited for, up to a minute; no byte is passed twice.
func (c *Client) Follow(ctx context.Context, q LogQuery, f Follower) (run.State, error) {
	q.Size = followChunk
	pause := followFastest
	var lostAt time.Time
	for {
		data, state, err := c.Log(ctx, q)
		switch {
		case err == nil:
			lostAt = time.Time{}
		case fault.Is(err, fault.CodeUnavailable) && ctx.Err() == nil:
			if lostAt.IsZero() {
				lostAt = time.Now()
			}
			if time.Since(lostAt) > followPatience {
				return "", err
			}
			if f.Lost != nil {
				f.Lost(err, lostAt)
			}
			if err := sleep(ctx, followSlowest); err != nil {
				return "", err
			}
			continue
		default:
			return "", err
		}
		if len(data) > 0 {
			q.Offset += int64(len(data))
			if err := f.Log(data); err != nil {
				return state, err
			}
		}
		if f.State != nil {
			if err := f.State(state); err != nil {
				return state, err
			}
		}
		if len(data) > 0 {
			pause = followFastest
			continue
		}
		if state.Terminal() {
			return state, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return state, err
		}
		pause = min(pause*3/2, followSlowest)
	}
}
