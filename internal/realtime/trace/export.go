package trace

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queueSize  = 2048 // spans that wait; more are dropped
	batchSize  = 512
	batchDelay = time.Second
	tries      = 4 // to send a batch, with pauses that double from a second
	sendWithin = 10 * time.Second
)

// Tracer sends spans to a collector. A nil Tracer is no tracing.
//
// One goroutine sends; Close ends it. Requests never wait for it: when the queue is
// full, their spans are dropped and counted.
type Tracer struct {
	config  Config
	ratio   float64
	queue   chan *Span
	dropped atomic.Uint64
	client  *http.Client
	closing chan struct{}
	once    sync.Once
	sent    sync.WaitGroup
	until   context.Context // of closing; set before closing is closed
	lost    bool            // the last batch; of the sender
}

// New returns a Tracer, nil for the zero Config.
func New(config Config) *Tracer {
	if config.Endpoint == "" {
		return nil
	}
	t := &Tracer{
		config: config, ratio: config.Ratio, queue: make(chan *Span, queueSize), closing: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, Proxy: http.ProxyFromEnvironment}},
	}
	t.sent.Go(t.run)
	return t
}

// Dropped is how many spans no collector got.
func (t *Tracer) Dropped() uint64 {
	if t == nil {
		return 0
	}
	return t.dropped.Load()
}

// Close sends what waits, until ctx ends. Spans that end later are lost.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	t.once.Do(func() {
		t.until = ctx
		close(t.closing)
	})
	t.sent.Wait()
	t.client.CloseIdleConnections()
}

// run sends batches until the tracer closes.
func (t *Tracer) run() {
	timer := time.NewTimer(batchDelay)
	defer timer.Stop()
	var batch []*Span
	for {
		select {
		case s := <-t.queue:
			if batch = append(batch, s); len(batch) < batchSize {
				continue
			}
		case <-timer.C:
		case <-t.closing:
			for len(t.queue) > 0 {
				batch = append(batch, <-t.queue)
			}
			t.send(batch)
			return
		}
		t.send(batch)
		batch = nil
		timer.Reset(batchDelay)
	}
}

// send sends a batch. What cannot be sent is dropped, which is said once until it
// works again.
func (t *Tracer) send(batch []*Span) {
	if len(batch) == 0 {
		return
	}
	body, err := json.Marshal(t.document(batch))
	pause := time.Second
	for try := 1; err == nil; try++ {
		var again bool
		if again, err = t.post(body); err == nil {
			t.lost = false
			return
		}
		if !again || try >= tries {
			break
		}
		err = nil
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.closing:
			timer.Stop()
			if t.until.Err() != nil {
				try = tries
			}
			try = max(try, tries-1) // once more
		}
		pause *= 2
	}
	t.dropped.Add(uint64(len(batch)))
	if !t.lost {
		t.config.Logger.Warn("traces cannot be sent and are dropped until that works again", "endpoint", t.config.Endpoint, "error", err)
	}
	t.lost = true
}

// post sends a batch once; again says whether trying once more may help.
func (t *Tracer) post(body []byte) (again bool, err error) {
	parent := context.Background()
	select {
	case <-t.closing:
		parent = t.until
	default:
	}
	ctx, cancel := context.WithTimeout(parent, sendWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.config.Endpoint, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	for _, header := range t.config.Headers {
		request.Header.Set(header[0], header[1])
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := t.client.Do(request)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection is used again
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, fmt.Errorf("the collector answered %s", response.Status)
	}
	if response.StatusCode/100 != 2 {
		return false, fmt.Errorf("the collector answered %s", response.Status)
	}
	return false, nil
}

// The shape of OTLP's JSON, as far as it is used.
type (
	document struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	resource struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope      `json:"scope"`
		Spans []spanJSON `json:"spans"`
	}
	scope struct {
		Name string `json:"name"`
	}
	keyValue struct {
		Key   string            `json:"key"`
		Value map[string]string `json:"value"`
	}
	spanJSON struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		Parent     string     `json:"parentSpanId,omitempty"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      string     `json:"startTimeUnixNano"`
		End        string     `json:"endTimeUnixNano"`
		Attributes []keyValue `json:"attributes"`
		Status     spanStatus `json:"status"`
	}
	spanStatus struct {
		Code    int    `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
)

const (
	kindInternal = 1
	kindServer   = 2
	codeError    = 2
)

func text(key, value string) keyValue {
	return keyValue{key, map[string]string{"stringValue": value}}
}

func integer(key string, value int) keyValue {
	return keyValue{key, map[string]string{"intValue": strconv.Itoa(value)}} // 64-bit numbers are strings there
}

func (t *Tracer) document(batch []*Span) document {
	var from resource
	service := ""
	for _, a := range t.config.Resource {
		from.Attributes = append(from.Attributes, text(a.Key, a.Value))
		if a.Key == "service.name" {
			service = a.Value
		}
	}
	spans := make([]spanJSON, len(batch))
	for i, s := range batch {
		one := spanJSON{
			TraceID: hex.EncodeToString(s.trace[:]), SpanID: hex.EncodeToString(s.id[:]), Name: s.method + " " + service, Kind: kindServer,
			Start: strconv.FormatInt(s.began.UnixNano(), 10), End: strconv.FormatInt(s.ended.UnixNano(), 10),
			Attributes: []keyValue{text("http.request.method", s.method), text("url.path", s.path)},
		}
		if s.trigger != "" {
			one.Name, one.Kind = s.trigger+" "+service, kindInternal
			one.Attributes = []keyValue{text("faas.trigger", "timer"), text("millrace.trigger", s.trigger)}
		}
		if s.parent != [8]byte{} {
			one.Parent = hex.EncodeToString(s.parent[:])
		}
		if s.status != 0 && s.trigger == "" {
			one.Attributes = append(one.Attributes, integer("http.response.status_code", s.status))
		}
		if s.status >= 500 || s.failure != "" {
			one.Status = spanStatus{Code: codeError, Message: s.failure}
		}
		spans[i] = one
	}
	return document{[]resourceSpans{{from, []scopeSpans{{scope{"millrace"}, spans}}}}}
}
