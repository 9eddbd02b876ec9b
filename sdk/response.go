package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Response is an answer in full.
type Response struct {
	Status      int                 // 200 to 599; 0 is 200
	ContentType string              // "" is text/plain, or application/octet-stream for a Stream
	Headers     map[string][]string // of the response
	Body        []byte
	// Stream is sent in place of Body, piece by piece as it is read, and closed if it is
	// an io.Closer.
	Stream io.Reader
}

// JSON is a response with a value as JSON.
func JSON(status int, value any) (*Response, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("the response cannot be written as JSON: %w", err)
	}
	return &Response{Status: status, ContentType: "application/json", Body: body}, nil
}

type responseHead struct {
	Status      int                 `json:"status"`
	ContentType string              `json:"content_type"`
	Headers     map[string][]string `json:"headers,omitempty"`
	Logs        []map[string]any    `json:"logs,omitempty"`
}

// responseOf is the response that a handler's value stands for.
func responseOf(value any) (*Response, error) {
	switch value := value.(type) {
	case nil:
		return &Response{Status: 204}, nil
	case *Response:
		if value == nil {
			return &Response{Status: 204}, nil
		}
		whole := *value
		if whole.Status == 0 {
			whole.Status = 200
		}
		if whole.Status < 200 || whole.Status > 599 {
			return nil, fmt.Errorf("the handler returned the status %d, which is none of 200 to 599", whole.Status)
		}
		if whole.ContentType == "" && whole.Status != 204 {
			whole.ContentType = "text/plain"
			if whole.Stream != nil {
				whole.ContentType = "application/octet-stream"
			}
		}
		return &whole, nil
	case string:
		return &Response{Status: 200, ContentType: "text/plain", Body: []byte(value)}, nil
	case []byte:
		return &Response{Status: 200, ContentType: "text/plain", Body: value}, nil
	case io.Reader:
		return &Response{Status: 200, ContentType: "application/octet-stream", Stream: value}, nil
	}
	return JSON(200, value)
}

// respond sends what a handler returned. After an error nothing was sent.
func (s *server) respond(call uint32, records *records, value any) error {
	response, err := responseOf(value)
	if err != nil {
		return err
	}
	head, err := json.Marshal(responseHead{response.Status, response.ContentType, response.Headers, records.list()})
	if err != nil {
		return err
	}
	if response.Stream == nil {
		return s.out.write(frame{kind: typeResponse, call: call, head: head, body: response.Body})
	}
	if err := s.out.write(frame{kind: typeResponse, flags: flagMore, call: call, head: head}); err != nil {
		return err
	}
	last := frame{kind: typePiece, call: call}
	if err := s.pieces(call, response.Stream); err != nil {
		fmt.Fprintln(s.log, "the response's body cannot be completed:", err)
		last.flags = flagFailed
	}
	_ = s.out.write(last) // an error means that the host has gone away
	return nil
}

const pieceSize = 64 << 10

// pieces sends a body as it is read, and closes it.
func (s *server) pieces(call uint32, body io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if closer, ok := body.(io.Closer); ok {
			err = errors.Join(err, closer.Close())
		}
	}()
	buffer := make([]byte, pieceSize)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if err := s.out.write(frame{kind: typePiece, flags: flagMore, call: call, body: buffer[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fail sends the response to an error, and writes one that is not the caller's to
// the log.
func (s *server) fail(call uint32, records *records, err error) {
	head, flags, text := responseHead{Status: 500, ContentType: "text/plain", Logs: records.list()}, byte(flagFailed), err.Error()
	var own *Error
	var crash *panicked
	switch {
	case errors.As(err, &own) && own.Status >= 400 && own.Status <= 599:
		head.Status, flags, text = own.Status, 0, own.Text
	case errors.As(err, &crash):
		fmt.Fprintf(s.log, "%s\n\n%s", text, crash.stack)
	default:
		fmt.Fprintln(s.log, text)
	}
	raw, err := json.Marshal(head)
	if err != nil { // of the log records
		head.Logs = nil
		raw, _ = json.Marshal(head)
	}
	_ = s.out.write(frame{kind: typeResponse, flags: flags, call: call, head: raw, body: []byte(text)})
}
