package worker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/document"
)

// Flags of an event's frames; see docs/protocol.md, Events.
const (
	flagJSON    = 0x02 // of an event: the body is JSON
	flagBatch   = 0x04 // of an event: the next one belongs to the same batch
	flagCapture = 0x08 // of an event: log records come with the response
	flagMore    = 0x02 // of a response or piece: pieces follow
)

// EventLoad says how a handler is served that was loaded with ModeEvent.
type EventLoad struct {
	TriggerKind, TriggerName string
	Worker                   string // number of the worker among those of its trigger
	Batch                    bool   // the handler takes lists of events
	Jobs                     bool   // events are runs for handlers of jobs, named by the path
	Threads                  int    // in which a plain handler gets several events at once; 0 and 1 are one
	LogLevel                 string // from which on the records of context.logger are written; "" is debug
	// Begun is the path of a file of at least 4 bytes in which the worker notes what
	// it begins. Once Load has returned it may be removed; Mark reads it.
	Begun string
	// Mark returns the note, the number of the last event that was begun. If it is
	// nil or returns false, every event counts as begun.
	Mark func() (uint32, bool)
}

// Request is one event for a worker. It is not looked at after Begin.
type Request struct {
	ID, Method, Path, URL, ContentType string
	Type, TypeVersion, Version         string // of a CloudEvent
	TriggerKind, TriggerName           string // "" are those of the load
	Timestamp                          time.Time
	Fields, Headers                    [][2]string
	JSON                               bool // the handler gets the value of the body
	// LogLevel, if any, asks for the log records from that level on.
	LogLevel string
	Body     []byte
}

// Reply is what came back: a response, or a piece of one.
type Reply struct {
	Status      int    // 0 of a piece
	ContentType string // "" is none
	Headers     [][2]string
	Logs        json.RawMessage // a list of records, if they were asked for
	Body        []byte          // valid until Reply returns
	Failed      bool            // the handler raised; of a piece: the rest of the body is lost
	More        bool            // pieces follow
	Took        time.Duration   // of the handler, up to 65 ms; 0 if it is not known
}

// Sink takes what becomes of an event: one reply, or several of which the last is
// without More, or an error (*DiedError) at any point, which is then the last. It
// is called from the worker's one reader, so that it may call Begin and must not
// wait long; replies of one worker arrive one after the other.
type Sink interface {
	Reply(r *Reply, err error)
}

// MarkOf returns what reads the note in file, which has to stay open as long.
func MarkOf(file *os.File) func() (uint32, bool) {
	return func() (uint32, bool) {
		var note [4]byte
		_, err := file.ReadAt(note[:], 0)
		return binary.LittleEndian.Uint32(note[:]), err == nil
	}
}

// Async reports whether the handler that was loaded is a coroutine function.
func (w *Worker) Async() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.async
}

// Threads is how many events the handler that was loaded takes at once; 1 of a
// coroutine function, which takes any number.
func (w *Worker) Threads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.threads, 1)
}

// Begin sends an event; it does not wait for the worker to read it. After an
// error, a *DiedError, sink is not called.
func (w *Worker) Begin(r *Request, sink Sink) error {
	return w.begin([]*Request{r}, []Sink{sink}, false)
}

// BeginSoon is Begin for an event of a handler that is quick: while others are with the
// worker it leaves when one of them is answered, together with what came meanwhile.
// Waking the worker costs more than such a handler takes.
func (w *Worker) BeginSoon(r *Request, sink Sink) error {
	return w.begin([]*Request{r}, []Sink{sink}, true)
}

// BeginBatch sends events that the handler gets in one list.
func (w *Worker) BeginBatch(requests []*Request, sinks []Sink) error {
	return w.begin(requests, sinks, false)
}

// GiveUp says that nobody wants what sink would get any more: a response that comes
// in pieces ends, a coroutine is cancelled; a plain handler runs on. The sink gets
// its last reply all the same.
func (w *Worker) GiveUp(sink Sink) { w.tell(sink, TypeCancel, 0) }

// Hold says that sink has no room for further pieces of its response, or has room
// again. A worker with several events in progress lets that response wait, and answers
// the others meanwhile; pieces that are on their way come all the same.
func (w *Worker) Hold(sink Sink, held bool) {
	if held {
		w.tell(sink, TypeHold, FlagOptional)
	} else {
		w.tell(sink, TypeGoOn, FlagOptional)
	}
}

// tell sends a frame without head and body about the event of sink, if it is open.
func (w *Worker) tell(sink Sink, what Type, flags uint8) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	var id uint32
	for at, other := range w.events {
		if other == sink {
			id = at
		}
	}
	w.mu.Unlock()
	if id == 0 {
		return
	}
	w.unwritten = appendHeader(w.unwritten, what, flags, id, 0, 0)
	if !w.busy && !w.corked {
		w.flushNow()
	}
}

func (w *Worker) begin(requests []*Request, sinks []Sink, soon bool) error {
	w.writing.Lock() // first: numbers have to be in the order of the frames
	w.mu.Lock()
	if w.calls == nil {
		w.mu.Unlock()
		w.writing.Unlock()
		return w.died()
	}
	first := w.lastCall + 1
	if w.lastCall > 1<<32-1-uint32(len(requests)) {
		first = 1
	}
	w.lastCall = first + uint32(len(requests)) - 1
	// One of them has been written, and readLoop uncorks after its answer.
	held := soon && len(w.events) > 0
	for i, sink := range sinks {
		w.events[first+uint32(i)] = sink
	}
	alone := len(w.events) == len(sinks)
	w.mu.Unlock()
	for i, r := range requests {
		var flags uint8
		if i+1 < len(requests) {
			flags = flagBatch
		}
		w.unwritten = appendEvent(w.unwritten, first+uint32(i), flags, r)
	}
	if !held || len(w.unwritten) > maxGathered {
		w.flushSoon(alone && !soon)
	}
	w.writing.Unlock()
	return nil
}

// flushSoon writes; when the worker has more to do, or is quick, after the goroutines that can
// run have had their turn, so that events which arrive together leave together. The
// caller holds w.writing, which is let go meanwhile.
func (w *Worker) flushSoon(alone bool) {
	if w.busy || w.corked || w.yielding {
		return
	}
	if !alone {
		w.yielding = true
		w.writing.Unlock()
		runtime.Gosched()
		w.writing.Lock()
		w.yielding = false
	}
	if !w.busy && !w.corked {
		w.flushNow()
	}
}

// maxGathered is how many bytes may wait for an answer, so that a worker has no long
// ones before it at once.
const maxGathered = 32 << 10

// flushNow writes without waiting; what the pipe does not take is left to a
// goroutine that ends with the worker at the latest. The caller holds w.writing.
func (w *Worker) flushNow() {
	if len(w.unwritten) == 0 || w.writeErr != nil {
		return
	}
	w.busy = true
	for len(w.unwritten) > 0 && w.writeErr == nil {
		data := w.unwritten
		w.unwritten = w.spare[:0]
		w.spare = nil
		if len(data) > pipeSize && !w.wide {
			w.wide = true
			widen(w.out)
		}
		w.writing.Unlock()
		n, err := w.tryWrite(data)
		w.writing.Lock()
		if err != nil {
			w.writeErr = err // the process is gone, or about to be: ended tells everybody
			break
		}
		if n < len(data) {
			w.flushing.Add(1)
			go w.flushRest(data, n)
			return
		}
		w.keepSpare(data)
	}
	w.busy = false
	w.writable.Broadcast()
}

func (w *Worker) keepSpare(data []byte) {
	if cap(data) <= maxUnwritten {
		w.spare = data[:0]
	}
}

func (w *Worker) flushRest(data []byte, from int) {
	defer w.flushing.Done()
	_, err := w.out.Write(data[from:])
	w.writing.Lock()
	defer w.writing.Unlock()
	w.keepSpare(data)
	w.busy = false
	if err != nil {
		w.writeErr = err
	}
	w.writable.Broadcast()
	w.flushNow()
}

// tryWrite writes as much as the pipe takes at once.
func (w *Worker) tryWrite(data []byte) (n int, err error) {
	conn, err := w.out.SyscallConn()
	if err != nil {
		return 0, err
	}
	failure := conn.Write(func(fd uintptr) bool {
		for n < len(data) {
			var m int
			m, err = syscall.Write(int(fd), data[n:])
			if err == syscall.EINTR {
				err = nil
				continue
			}
			if m > 0 {
				n += m
			}
			if err != nil {
				break
			}
		}
		return true
	})
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	return n, errors.Join(err, failure)
}

// cork makes Begin leave its frames until uncork, so that what replies give rise
// to leaves together.
func (w *Worker) cork() {
	w.writing.Lock()
	w.corked = true
	w.writing.Unlock()
}

func (w *Worker) uncork() {
	w.writing.Lock()
	w.corked = false
	if !w.busy {
		w.flushNow()
	}
	w.writing.Unlock()
}

// replied hands a response or a piece to its sink.
func (w *Worker) replied(frame Frame) error {
	w.mu.Lock()
	sink := w.events[frame.Call]
	more := frame.Flags&flagMore != 0
	if sink != nil && !more {
		delete(w.events, frame.Call)
	}
	w.mu.Unlock()
	if sink == nil {
		return violation("the worker answered the event %d, which it was not given", frame.Call)
	}
	reply := &w.reply
	*reply = Reply{Body: frame.Body, Failed: frame.Flags&FlagFailed != 0, More: more, Took: time.Duration(frame.Took) * time.Microsecond}
	if frame.Type == TypeResponse {
		if err := reply.decode(frame.Head); err != nil {
			return err
		}
	}
	if more || frame.Type == TypePiece {
		w.uncork() // whoever takes the pieces may be slow
	}
	sink.Reply(reply, nil)
	return nil
}

var (
	headJSON   = []byte(`{"content_type":"application/json"}`)
	headEmpty  = []byte(`{"status":204,"content_type":""}`)
	headFailed = []byte(`{"status":500}`)
)

func (r *Reply) decode(head []byte) error {
	r.Status, r.ContentType = 200, "text/plain"
	switch {
	case len(head) == 0:
	case bytes.Equal(head, headJSON):
		r.ContentType = "application/json"
	case bytes.Equal(head, headEmpty):
		r.Status, r.ContentType = 204, ""
	case bytes.Equal(head, headFailed):
		r.Status = 500
	default:
		return r.decodeOther(head)
	}
	return nil
}

func (r *Reply) decodeOther(head []byte) error {
	said, err := document.DecodeObject(head)
	if err != nil {
		return violation("the head of a response: %v", err)
	}
	if status, ok := document.Int(said, "status"); ok {
		r.Status = int(status)
	}
	if r.Status < 200 || r.Status > 599 {
		return violation("a response has the status %d", r.Status)
	}
	if value, ok := said["content_type"].(string); ok {
		r.ContentType = value
	}
	for name, value := range document.Map(said, "headers") {
		switch value := value.(type) {
		case string:
			r.Headers = append(r.Headers, [2]string{name, value})
		case []any:
			for _, item := range value {
				if text, ok := item.(string); ok {
					r.Headers = append(r.Headers, [2]string{name, text})
				}
			}
		}
	}
	if logs, ok := said["logs"].([]any); ok {
		if r.Logs, err = json.Marshal(logs); err != nil {
			return violation("the log records of a response: %v", err)
		}
	}
	return nil
}

// endEvents tells the sinks of all events that the process is gone. It is called
// when the reader is at its end.
func (w *Worker) endEvents(events map[uint32]Sink, died *DiedError) {
	if len(events) == 0 {
		return
	}
	ids := make([]uint32, 0, len(events))
	for id := range events {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var mark uint32
	marked := w.mark != nil && !w.async
	if marked {
		mark, marked = w.mark()
	}
	for _, id := range ids {
		each := *died
		// Numbers start again after 2³²: a difference tells the order, not the size.
		each.Begun = !marked || mark != 0 && int32(id-mark) <= 0
		events[id].Reply(nil, &each)
	}
}

func appendEvent(dst []byte, id uint32, flags uint8, r *Request) []byte {
	if r.JSON {
		flags |= flagJSON
	}
	if r.LogLevel != "" {
		flags |= flagCapture
	}
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	dst = appendHead(dst, r)
	head := len(dst) - start - headerSize
	dst = append(dst, r.Body...)
	appendHeader(dst[:start], TypeEvent, flags, id, head, len(r.Body))
	return dst
}

func appendHeader(dst []byte, kind Type, flags uint8, id uint32, head, body int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(head+body))
	dst = append(dst, byte(kind), flags, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, id)
	return binary.LittleEndian.AppendUint32(dst, uint32(head))
}

func appendHead(dst []byte, r *Request) []byte {
	dst = append(dst, `{"timestamp":`...)
	dst = strconv.AppendInt(dst, r.Timestamp.Unix(), 10)
	for _, pair := range [...][2]string{
		{"id", r.ID}, {"method", r.Method}, {"path", r.Path}, {"url", r.URL}, {"content_type", r.ContentType}, {"log_level", r.LogLevel},
		{"type", r.Type}, {"type_version", r.TypeVersion}, {"version", r.Version},
	} {
		if pair[1] != "" {
			dst = append(append(append(dst, `,"`...), pair[0]...), `":`...)
			dst = appendString(dst, pair[1])
		}
	}
	dst = appendPairs(dst, `,"fields":{`, r.Fields)
	dst = appendPairs(dst, `,"headers":{`, r.Headers)
	if r.TriggerKind != "" {
		dst = appendPairs(dst, `,"trigger":{`, [][2]string{{"kind", r.TriggerKind}, {"name", r.TriggerName}})
	}
	return append(dst, '}')
}

// appendPairs appends an object; of names that occur several times the last counts.
func appendPairs(dst []byte, begin string, pairs [][2]string) []byte {
	if len(pairs) == 0 {
		return dst
	}
	dst = append(dst, begin...)
	first := true
	for i, pair := range pairs {
		if slices.ContainsFunc(pairs[i+1:], func(later [2]string) bool { return later[0] == pair[0] }) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, pair[0]), ':')
		dst = appendString(dst, pair[1])
	}
	return append(dst, '}')
}

// appendString appends a JSON string. Bytes that are no UTF-8 become the escapes
// of which Python makes the bytes again.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = fmt.Appendf(dst, `\udc%02x`, c)
		} else {
			dst = append(dst, s[start:i]...)
			dst = fmt.Appendf(dst, `\u%04x`, c)
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
