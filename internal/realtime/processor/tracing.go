package processor

import (
	"os"
	"slices"
	"strconv"

	"github.com/millrace/millrace/internal/realtime/trace"
)

// tracing is where the revision's spans go, nil for nowhere. Variables that make no
// sense here are no reason not to serve: they may be meant for the function's code.
func (s *serving) tracing() *trace.Tracer {
	r := &s.spec
	config, err := trace.FromEnvironment(slices.Concat(os.Environ(), r.Env, r.Secrets), r.Name, []trace.Attribute{
		{Key: "service.namespace", Value: r.Project}, {Key: "faas.name", Value: r.Name}, {Key: "faas.version", Value: strconv.Itoa(r.Number)},
	}, s.logger)
	if err != nil {
		s.logger.Warn("requests are not traced", "error", err)
	}
	return trace.New(config)
}
