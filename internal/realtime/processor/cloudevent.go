package processor

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/worker"
)

const (
	cloudEventsType   = "application/cloudevents"
	cloudEventsHeader = "Ce-Cloudeventsversion"
)

// cloudEvent is an event in the structured form of CloudEvents 0.1.
type cloudEvent struct {
	Version     string          `json:"cloudEventsVersion"`
	Type        string          `json:"eventType"`
	TypeVersion string          `json:"eventTypeVersion"`
	Source      string          `json:"source"`
	ID          string          `json:"eventID"`
	Time        string          `json:"eventTime"`
	ContentType string          `json:"contentType"`
	Extensions  map[string]any  `json:"extensions"`
	Data        json.RawMessage `json:"data"`
}

// unwrap makes of a request that carries a CloudEvent that event; others stay as
// they are.
func unwrap(into *worker.Request, header http.Header) error {
	switch {
	case header[cloudEventsHeader] != nil:
		return binaryCloudEvent(into, header)
	case len(into.ContentType) >= len(cloudEventsType) && strings.EqualFold(into.ContentType[:len(cloudEventsType)], cloudEventsType):
		return structuredCloudEvent(into)
	}
	return nil
}

func binaryCloudEvent(into *worker.Request, header http.Header) error {
	into.Version, into.Type, into.TypeVersion = header.Get(cloudEventsHeader), header.Get("Ce-Eventtype"), header.Get("Ce-Eventtypeversion")
	if id := header.Get("Ce-Eventid"); id != "" {
		into.ID = id
	}
	into.TriggerKind, into.TriggerName = header.Get("Ce-Source"), header.Get("Ce-Name")
	return eventTime(into, header.Get("Ce-Eventtime"))
}

func structuredCloudEvent(into *worker.Request) error {
	var e cloudEvent
	if err := json.Unmarshal(into.Body, &e); err != nil {
		return fault.Invalid("the body is no CloudEvent: %s", err)
	}
	into.Version, into.Type, into.TypeVersion, into.ContentType = e.Version, e.Type, e.TypeVersion, e.ContentType
	if e.ID != "" {
		into.ID = e.ID
	}
	into.TriggerKind, into.TriggerName = e.Source, e.Source
	into.Headers = into.Headers[:0]
	for name, value := range e.Extensions {
		text, ok := value.(string)
		if !ok {
			raw, _ := json.Marshal(value) // it came from JSON
			text = string(raw)
		}
		into.Headers = append(into.Headers, [2]string{name, text})
	}
	var text string
	switch {
	case len(e.Data) == 0 || string(e.Data) == "null":
		into.Body, into.JSON = nil, false
	case json.Unmarshal(e.Data, &text) == nil:
		into.Body, into.JSON = []byte(text), isJSON(e.ContentType)
	default:
		into.Body, into.JSON = e.Data, true
	}
	return eventTime(into, e.Time)
}

func eventTime(into *worker.Request, text string) error {
	if text == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fault.Invalid("the time of the CloudEvent, %q, is not as RFC 3339 has it", text)
	}
	into.Timestamp = at
	return nil
}
