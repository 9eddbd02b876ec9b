package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// HandlerTransport is a transport that calls handler in this process. An answer
// streams: RoundTrip returns at the first byte or header, and closing the body
// ends the handler's request context and waits for the handler.
func HandlerTransport(handler http.Handler) http.RoundTripper { return handlerTransport{handler} }

type handlerTransport struct{ handler http.Handler }

var errBodyClosed = errors.New("the reader closed the body")

func (t handlerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	inner := req.Clone(ctx)
	inner.RequestURI = req.URL.RequestURI()
	inner.RemoteAddr = "127.0.0.1:0"
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	if inner.Host == "" {
		inner.Host = req.URL.Host
	}
	reader, writer := io.Pipe()
	w := &pipeWriter{header: http.Header{}, pipe: writer, started: make(chan struct{})}
	finished := make(chan struct{})
	var failure error // written before finished is closed
	go func() {
		defer close(finished)
		defer func() {
			if recovered := recover(); recovered != nil {
				failure = errors.New("the handler panicked")
				if err, ok := recovered.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					failure = err
				}
			}
			w.start(http.StatusOK)
			_ = writer.CloseWithError(failure)
			if req.Body != nil {
				_ = req.Body.Close()
			}
		}()
		t.handler.ServeHTTP(w, inner)
	}()
	select {
	case <-w.started:
	case <-req.Context().Done():
		// The handler sees the end of its context; whatever it still writes is lost.
		_ = reader.CloseWithError(context.Cause(req.Context()))
		<-finished
		cancel()
		return nil, context.Cause(req.Context())
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: -1, Request: req,
		Body: &handlerBody{PipeReader: reader, cancel: cancel, finished: finished},
	}, nil
}

// handlerBody ends the handler when it is closed.
type handlerBody struct {
	*io.PipeReader
	cancel   context.CancelFunc
	finished <-chan struct{}
}

func (b *handlerBody) Close() error {
	err := b.PipeReader.CloseWithError(errBodyClosed)
	b.cancel()
	<-b.finished
	return err
}

// pipeWriter is the handler's side of an answer.
type pipeWriter struct {
	header  http.Header
	sent    http.Header // the headers as they were when the answer began
	status  int
	once    sync.Once
	started chan struct{}
	pipe    *io.PipeWriter
}

func (w *pipeWriter) start(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if status >= 200 { // informational answers have no meaning here
		w.start(status)
	}
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.start(http.StatusOK)
	return w.pipe.Write(p)
}

func (w *pipeWriter) Flush() { w.start(http.StatusOK) }

// SetReadDeadline and SetWriteDeadline serve http.ResponseController: within one
// process nothing has to time out.
func (w *pipeWriter) SetReadDeadline(time.Time) error { return nil }

func (w *pipeWriter) SetWriteDeadline(time.Time) error { return nil }
