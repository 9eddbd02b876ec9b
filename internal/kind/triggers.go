package kind

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
)

// triggers reads the sources of events.
func (s *Service) triggers(config document.Object) error {
	triggers := document.Map(config, "triggers")
	for _, name := range slices.Sorted(maps.Keys(triggers)) {
		trigger, ok := triggers[name].(document.Object)
		if !ok {
			return fault.Invalid("spec.config: the trigger %s must be an object, got %s", name, document.TypeName(triggers[name]))
		}
		if document.Bool(trigger, "disabled") {
			continue
		}
		if err := s.trigger(name, trigger); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) trigger(name string, from document.Object) error {
	kind := document.String(from, "kind")
	t := realtime.Trigger{Name: name, Kind: kind, Allocator: document.String(from, "workerAllocatorName")}
	if own := document.String(from, "name"); own != "" && own != name {
		return fault.Invalid("the trigger %s: its name is %q; leave name away, or make it that under which the trigger stands", name, own)
	}
	for _, key := range []string{"maxWorkers", "numWorkers"} {
		if count, ok := document.Int(from, key); ok {
			if count < 0 || count > 1024 {
				return fault.Invalid("the trigger %s: %s %d is not a number of workers from 1 to 1024", name, key, count)
			}
			t.Workers = int(count)
		}
	}
	if ms, ok := document.Int(from, "workerAvailabilityTimeoutMilliseconds"); ok && ms >= 0 {
		wait := time.Duration(ms) * time.Millisecond
		t.AvailabilityTimeout = &wait
	}
	var err error
	if t.Termination, err = duration(from, "the trigger "+name+": workerTerminationTimeout", "workerTerminationTimeout"); err != nil {
		return err
	}
	attributes := lower(document.Map(from, "attributes"))
	if batch := document.Map(from, "batch"); batch != nil && document.String(batch, "mode") == "enable" {
		t.Batch = &realtime.Batch{}
		if size, ok := document.Int(batch, "batchSize"); ok {
			t.Batch.Size = int(size)
		}
		if t.Batch.Delay, err = duration(batch, "the trigger "+name+": batch.timeout", "timeout"); err != nil {
			return err
		}
	}
	if threads, ok := document.Int(attributes, "threads"); ok {
		if threads < 1 || threads > 256 {
			return fault.Invalid("the trigger %s: attributes.threads %d is not a number of threads from 1 to 256", name, threads)
		}
		t.Threads = int(threads)
	}
	if limit, ok := document.Int(from, "async", "maxConnectionsNumber"); ok {
		t.Concurrency = int(limit)
	}
	switch kind {
	case realtime.TriggerHTTP:
		if err := s.http(name, attributes); err != nil {
			return err
		}
	case realtime.TriggerCron:
		cron, err := cronOf(name, attributes)
		if err != nil {
			return err
		}
		t.Cron = cron
	default:
		return fault.Invalid("the trigger %s is of the kind %q; this version has the kinds %s and %s, so have what reads the stream or queue send its messages over HTTP, or disable the trigger", name, kind, realtime.TriggerHTTP, realtime.TriggerCron)
	}
	s.Revision.Triggers = append(s.Revision.Triggers, t)
	return nil
}

// lower makes the names of attributes comparable: they are read whatever their case.
func lower(attributes document.Object) document.Object {
	out := document.Object{}
	for key, value := range attributes {
		out[strings.ToLower(key)] = value
	}
	return out
}

// http reads what holds for the function's addresses.
func (s *Service) http(name string, attributes document.Object) error {
	if port, ok := document.Int(attributes, "port"); ok && port != 0 {
		if port < 1 || port > 65535 {
			return fault.Invalid("the trigger %s: attributes.port %d is not a port", name, port)
		}
		s.Port = int(port)
	}
	if len(document.Map(attributes, "ingresses")) > 0 {
		return fault.Invalid("the trigger %s: attributes.ingresses (host and paths of with_http) are made on Kubernetes only; make an API gateway, which may have a host name, or leave them away", name)
	}
	if size, ok := document.Int(attributes, "maxrequestbodysize"); ok && size > 0 {
		s.Front.Limits.Body = size
	}
	if size, ok := document.Int(attributes, "readbuffersize"); ok && size > 0 {
		s.Front.Limits.Headers = int(size)
	}
	auth, tls := lower(document.Map(attributes, "auth")), lower(document.Map(attributes, "tls"))
	s.Front.Keys, s.Front.Basic = document.String(auth, "keys"), document.String(auth, "basic")
	if len(auth) > 0 && s.Front.Keys == "" && s.Front.Basic == "" {
		return fault.Invalid("the trigger %s: attributes.auth names no secret: set keys or basic to the name of one", name)
	}
	if len(tls) > 0 {
		s.Front.TLS = &realtime.TLS{Certificate: document.String(tls, "certificate"), Key: document.String(tls, "key")}
		if !filepath.IsAbs(s.Front.TLS.Certificate) || !filepath.IsAbs(s.Front.TLS.Key) {
			return fault.Invalid("the trigger %s: attributes.tls needs certificate and key, both absolute paths on the server's machine", name)
		}
	}
	cors := lower(document.Map(attributes, "cors"))
	if !document.Bool(cors, "enabled") {
		return nil
	}
	s.Front.CORS = &realtime.CORS{
		Origins: append(texts(cors["alloworigins"]), texts(cors["alloworigin"])...), Methods: texts(cors["allowmethods"]),
		Headers: texts(cors["allowheaders"]), Expose: texts(cors["exposeheaders"]), Credentials: document.Bool(cors, "allowcredentials"),
	}
	if seconds, ok := document.Int(cors, "preflightmaxageseconds"); ok && seconds > 0 {
		s.Front.CORS.MaxAge = time.Duration(seconds) * time.Second
	}
	if err := s.Front.CORS.Check(); err != nil {
		return fmt.Errorf("the trigger %s: attributes.%w", name, err)
	}
	return nil
}

func cronOf(name string, attributes document.Object) (*realtime.Cron, error) {
	interval, err := duration(attributes, "the trigger "+name+": attributes.interval", "interval")
	if err != nil {
		return nil, err
	}
	event := document.Map(attributes, "event")
	cron := &realtime.Cron{
		Schedule: document.String(attributes, "schedule"), Interval: interval,
		Body: text(event["body"]), Path: document.String(event, "path"), Method: document.String(event, "method"),
		Zone: document.String(attributes, "timezone"), Headers: map[string]string{},
	}
	for key, value := range document.Map(event, "headers") {
		cron.Headers[key] = text(value)
	}
	return cron, nil
}

// text is a text as it is, nothing as "", and any other value as JSON.
func text(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	return string(document.Encode(value))
}
