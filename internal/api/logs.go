package api

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// stateHeader tells log readers the state of the run.
const stateHeader = "X-Mlrun-Run-State"

// checkLogKey refuses project names and uids that could not be part of a path.
func checkLogKey(key run.Key) error {
	for _, part := range []string{key.Project, key.UID} {
		if part == "" || part == "." || part == ".." || len(part) > 255 {
			return fault.Invalid("%q can not name the log of a run", clip(part))
		}
		for i := 0; i < len(part); i++ {
			if part[i] == '/' || part[i] == '\\' || part[i] < 0x20 || part[i] == 0x7f {
				return fault.Invalid("%q can not name the log of a run: it contains %q", clip(part), part[i])
			}
		}
	}
	return nil
}

// logState returns the state to announce with a piece of log. It must be read
// before the bytes are: a state that was final then was written after the last
// byte, so a reader who sees it and nothing more has seen everything. A run that
// waits for its next attempt is announced as pending, a word that keeps watchers
// watching.
func (c *call) logState(key run.Key) (run.State, error) {
	doc, err := c.s.opts.Store.RunGet(c.ctx(), key)
	if err != nil {
		return "", err
	}
	state := run.State(document.String(doc, "status", "state"))
	if state == run.PendingRetry {
		state = run.Pending
	}
	return state, nil
}

func (c *call) logKey() (run.Key, error) {
	key := run.Key{Project: c.path("project"), UID: c.path("uid")}
	return key, checkLogKey(key)
}

func logGet(c *call) error {
	key, err := c.logKey()
	if err != nil {
		return err
	}
	offset, err := c.int("offset", 0)
	if err != nil {
		return err
	}
	size, err := c.int("size", -1)
	if err != nil {
		return err
	}
	attempt, err := c.int("attempt", 0)
	if err != nil {
		return err
	}
	state, err := c.awaitNews(key, offset, size)
	if err != nil {
		return err
	}
	reader, err := c.s.opts.Logs.Read(c.ctx(), key.Project, key.UID, int(min(attempt, maxPageNumber)), offset, size)
	if err != nil {
		return err
	}
	defer reader.Close()
	c.w.Header().Set(stateHeader, string(state))
	c.startLog()
	c.copyLog(reader)
	return nil
}

// How long a reader of a live log is kept waiting for something new, and how much
// longer for the end of the run once there is.
const (
	newsWait = 2500 * time.Millisecond
	endWait  = 300 * time.Millisecond
	newsLook = 20 * time.Millisecond
)

// awaitNews returns the state to announce with the bytes from offset on. A client
// that asks for a limited piece asks again and again, seconds apart; while the run
// is live and there is nothing new it is kept waiting a moment, so that a short
// run is told in one answer.
func (c *call) awaitNews(key run.Key, offset, size int64) (run.State, error) {
	state, err := c.logState(key)
	if err != nil || size < 0 || state.Terminal() {
		return state, err
	}
	deadline := time.Now().Add(newsWait)
	ticker := time.NewTicker(newsLook)
	defer ticker.Stop()
	news := false
	for {
		if !news {
			length, err := c.s.opts.Logs.Size(c.ctx(), key.Project, key.UID, 0)
			if err != nil {
				return state, err
			}
			if news = length > offset; news {
				deadline = time.Now().Add(endWait)
			}
		}
		if state, err = c.logState(key); err != nil || state.Terminal() || time.Now().After(deadline) {
			return state, err
		}
		select {
		case <-c.ctx().Done():
			return state, c.ctx().Err()
		case <-c.s.drained:
			return state, nil
		case <-ticker.C:
		}
	}
}

func (c *call) startLog() {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(http.StatusOK)
}

// copyLog sends the reader's bytes. A read error breaks the connection off, so
// that nobody takes a piece for the whole.
func (c *call) copyLog(reader io.Reader) int64 {
	n, err := io.Copy(struct{ io.Writer }{c.w}, onlyReadErrors{reader})
	if _, broken := err.(readError); broken {
		c.fail(err)
		panic(abortResponse)
	}
	return n
}

// readError tells errors of the log from those of the connection.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

type onlyReadErrors struct{ io.Reader }

func (r onlyReadErrors) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = readError{err}
	}
	return n, err
}

func logAppend(c *call) error {
	key, err := c.logKey()
	if err != nil {
		return err
	}
	appending, err := c.bool("append", true)
	if err != nil {
		return err
	}
	if err := c.s.opts.Logs.Append(c.ctx(), key.Project, key.UID, c.masker(key.UID).Whole(c.r.Body), !appending); err != nil {
		return err
	}
	return c.done()
}

func logSize(c *call) error {
	key, err := c.logKey()
	if err != nil {
		return err
	}
	size, err := c.s.opts.Logs.Size(c.ctx(), key.Project, key.UID, 0)
	if err != nil {
		return err
	}
	if size == 0 {
		if _, err := c.logState(key); err != nil {
			return err
		}
	}
	return c.json(200, document.Object{"size": size})
}

const (
	// followEvery is how often a followed log is looked at while it grows,
	// followIdle how rarely when it does not.
	followEvery = 50 * time.Millisecond
	followIdle  = time.Second
)

// logFollow streams a log until its run ends, the client leaves or the server
// stops. Our own extension: clients of the reference poll logGet.
func logFollow(c *call) error {
	key, err := c.logKey()
	if err != nil {
		return err
	}
	offset, err := c.int("offset", 0)
	if err != nil {
		return err
	}
	follow, err := c.bool("follow", false)
	if err != nil {
		return err
	}
	state, err := c.logState(key)
	if err != nil {
		return err
	}
	if !follow {
		c.w.Header().Set(stateHeader, string(state))
	}
	c.w.Header().Set("X-Millrace-Log-Offset", strconv.FormatInt(offset, 10))
	c.startLog()
	out := http.NewResponseController(c.w)
	_ = out.Flush()
	for wait := followEvery; ; {
		n, err := c.logPiece(key, offset)
		if err != nil {
			c.fail(err)
			panic(abortResponse)
		}
		offset += n
		if !follow || state.Terminal() && n == 0 || out.Flush() != nil {
			return nil
		}
		if wait = min(2*wait, followIdle); n > 0 || state.Terminal() {
			wait = followEvery
		}
		if !c.pause(wait) {
			return nil
		}
		if state, err = c.logState(key); fault.Is(err, fault.CodeNotFound) {
			return nil // the run was deleted
		} else if err != nil {
			c.fail(err)
			panic(abortResponse)
		}
	}
}

// logPiece sends what there is from offset on.
func (c *call) logPiece(key run.Key, offset int64) (int64, error) {
	reader, err := c.s.opts.Logs.Read(c.ctx(), key.Project, key.UID, 0, offset, -1)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	return c.copyLog(reader), nil
}

// pause waits; false when the client left or the server stops.
func (c *call) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return c.ctx().Err() == nil
	case <-c.ctx().Done():
	case <-c.s.drained:
	}
	return false
}
