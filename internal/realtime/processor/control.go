package processor

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/metrics"
)

// controlHandler serves the control socket, which only the function's owner can open.
func (p *processor) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.status()) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		usage := metrics.Measure(os.Getpid())
		usage.CPU += p.cpu
		metrics.Write(w, p.samples(), usage)
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, _ *http.Request) {
		p.once.Do(func() { close(p.drain) })
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("PUT /desired", p.putDesired)
	return mux
}

func (p *processor) putDesired(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	o := order{done: make(chan error, 1)}
	if err == nil {
		err = json.Unmarshal(raw, &o.desired)
	}
	if err != nil {
		controlError(w, fault.Invalid("desired cannot be read: %s", err))
		return
	}
	select {
	case p.orders <- o:
	case <-p.drain:
		controlError(w, fault.Unavailable("the processor is about to end"))
		return
	case <-r.Context().Done():
		return
	}
	if err := <-o.done; err != nil {
		controlError(w, err)
		return
	}
	answerJSON(w, p.status())
}

func answerJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", jsonType)
	_ = json.NewEncoder(w).Encode(value) // the client may have left
}

func controlError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(realtime.Problem{Error: fault.Message(err), Code: fault.CodeOf(err)})
}

// status is what the processor has brought about.
func (p *processor) status() realtime.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := realtime.Status{PID: os.Getpid(), Started: p.started, Message: p.message, Draining: p.draining, Updated: time.Now(), State: realtime.StateStarting}
	if p.own != nil {
		out.Address, out.TLS = p.own.actual, p.own.encrypted
	}
	if t := p.table.Load(); t != nil {
		out.Routes = t.routes
	}
	for _, s := range p.revisions {
		out.Revisions = append(out.Revisions, s.status())
	}
	for _, s := range p.leaving {
		out.Revisions = append(out.Revisions, s.status())
	}
	for number, text := range p.failures {
		if _, wanted := p.share(number); wanted {
			out.Revisions = append(out.Revisions, realtime.RevisionStatus{Number: number, State: realtime.StateError, Message: text})
		}
	}
	slices.SortFunc(out.Revisions, func(a, b realtime.RevisionStatus) int { return a.Number - b.Number })
	out.State = p.overall(out.Revisions)
	if out.Message != "" {
		out.State = realtime.StateError
	}
	if p.draining {
		out.State = realtime.StateDraining
	}
	return out
}

// overall is the worst state of what should serve.
func (p *processor) overall(revisions []realtime.RevisionStatus) realtime.State {
	rank := map[realtime.State]int{realtime.StateScaledToZero: 1, realtime.StateReady: 2, realtime.StateStarting: 3, realtime.StateDraining: 3, realtime.StateError: 4}
	worst := realtime.State("")
	for _, r := range revisions {
		if route, wanted := p.share(r.Number); wanted && !route.Shadow && rank[r.State] > rank[worst] {
			worst = r.State
		}
	}
	if worst == "" {
		return realtime.StateStarting
	}
	return worst
}

func (p *processor) samples() []metrics.Sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []metrics.Sample
	for _, s := range p.revisions {
		out = append(out, s.samples()...)
	}
	for _, s := range p.leaving {
		out = append(out, s.samples()...)
	}
	slices.SortFunc(out, func(a, b metrics.Sample) int { return a.Revision - b.Revision })
	return out
}

// writeStatus leaves the status for who cannot ask.
func (p *processor) writeStatus() {
	if err := p.dir.WriteStatus(p.status()); err != nil {
		p.logger.Error("write status", "error", err)
	}
}

func (p *processor) logLimit() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := int64(realtime.DefaultLogLimit)
	for _, s := range p.revisions {
		limit = s.spec.LogLimit
	}
	return limit
}
