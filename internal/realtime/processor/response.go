package processor

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/realtime/edge"
)

// Headers of a response that make a file on this machine its body.
const (
	filePath   = "X-Nuclio-Filestream-Path"
	fileDelete = "X-Nuclio-Filestream-Delete-After-Send"
)

// pieceSize is how much of a long body has to leave within the time that a client
// may stop for.
const pieceSize = 256 << 10

// answer writes what the handler returned. A client that takes nothing for as long
// as slow is left.
func answer(w http.ResponseWriter, r *http.Request, e *event, slow time.Duration) {
	header := w.Header()
	file, remove := "", false
	for _, pair := range e.headers {
		switch name := http.CanonicalHeaderKey(pair[0]); name {
		case "Transfer-Encoding", "Connection", "Content-Length": // of the connection, which is not the handler's
		case filePath:
			file = pair[1]
		case fileDelete:
			remove = true
		default:
			header.Add(name, pair[1])
		}
	}
	if e.contentType != "" {
		header["Content-Type"] = []string{e.contentType}
	} else if header["Content-Type"] == nil {
		header["Content-Type"] = nil // or it is guessed
	}
	if len(e.logs) > 0 && len(e.logs) < maxLogs {
		header.Set(logsHeader, string(e.logs))
	}
	to := &patientWriter{to: w, control: http.NewResponseController(w), slow: slow}
	defer to.end()
	switch {
	case file != "":
		answerFile(to, e, file, remove)
	case e.stream != nil:
		stream(to, r, e)
	default:
		if hasBody(e.status) {
			header["Content-Length"] = []string{strconv.Itoa(len(e.body))}
		}
		w.WriteHeader(e.status)
		_, _ = to.Write(e.body) // the client may have left
	}
}

func hasBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// patientWriter gives each piece of a long body its own time to be taken.
type patientWriter struct {
	to      http.ResponseWriter
	control *http.ResponseController
	slow    time.Duration
	set     bool
}

func (p *patientWriter) Write(data []byte) (int, error) {
	written := 0
	for len(data) > pieceSize {
		n, err := p.piece(data[:pieceSize])
		written += n
		if err != nil {
			return written, err
		}
		data = data[n:]
	}
	if len(data) < 16<<10 && !p.set { // it fits into what is buffered
		n, err := p.to.Write(data)
		return written + n, err
	}
	n, err := p.piece(data)
	return written + n, err
}

func (p *patientWriter) piece(data []byte) (int, error) {
	if err := p.patience(); err != nil {
		return 0, err
	}
	return p.to.Write(data)
}

func (p *patientWriter) patience() error {
	p.set = true
	return p.control.SetWriteDeadline(time.Now().Add(p.slow))
}

func (p *patientWriter) flush() error {
	if err := p.patience(); err != nil {
		return err
	}
	return p.control.Flush()
}

func (p *patientWriter) end() {
	if !p.set {
		return
	}
	if p.patience() == nil && p.control.Flush() == nil {
		_ = p.control.SetWriteDeadline(time.Time{}) // a connection that is gone has none
	}
}

// answerFile sends a file that the handler has named.
func answerFile(to *patientWriter, e *event, path string, remove bool) {
	if e.stream != nil {
		e.drop()
	}
	fail := func(status int, err error) {
		to.to.Header().Del("Content-Type")
		var about *fs.PathError
		if errors.As(err, &about) {
			err = about.Err // the path says more of this machine than a client should know
		}
		edge.Problem(to.to, status, "the file that the handler sends cannot be read: "+err.Error())
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		fail(http.StatusNotFound, err)
		return
	}
	if err != nil {
		fail(http.StatusInternalServerError, err)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no ordinary file")
	}
	if err != nil {
		fail(http.StatusInternalServerError, err)
		return
	}
	if remove {
		defer os.Remove(path)
	}
	to.to.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	to.to.WriteHeader(e.status)
	_, _ = io.CopyN(struct{ io.Writer }{to}, file, info.Size()) // the client may have left
}

// stream sends a body that comes in pieces.
func stream(to *patientWriter, r *http.Request, e *event) {
	to.to.WriteHeader(e.status)
	_, err := to.Write(e.body)
	if err == nil {
		err = to.flush()
	}
	for err == nil {
		piece, over := e.take()
		switch {
		case piece != nil:
			_, err = to.Write(piece)
			continue
		case over && e.broken:
			panic(http.ErrAbortHandler) // so that the client sees that it is not whole
		case over:
			return
		}
		if err = to.flush(); err != nil {
			break
		}
		select {
		case <-e.stream.more:
		case <-r.Context().Done():
			err = r.Context().Err()
		}
	}
	e.drop()
	panic(http.ErrAbortHandler)
}
