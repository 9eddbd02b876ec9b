package secret

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// Shorter values than minMasked, and shorter lines of values than minLine, are not
// masked: they would be found everywhere.
const (
	minMasked = 4
	minLine   = 8
)

// Masker replaces values by as many stars, so that positions in a text stay what
// they are. A nil Masker replaces nothing.
type Masker struct{ values [][]byte }

// NewMasker masks the values as they are, as JSON and Python quote them, and each
// long line of one with several; nil when there is nothing to mask.
func NewMasker(values []string) *Masker {
	var forms []string
	for _, value := range values {
		forms = append(forms, value, strings.TrimRight(value, "\r\n"))
		if quoted, err := json.Marshal(value); err == nil {
			forms = append(forms, string(quoted[1:len(quoted)-1]))
		}
		var plain bytes.Buffer
		encoder := json.NewEncoder(&plain)
		encoder.SetEscapeHTML(false)
		if encoder.Encode(value) == nil {
			forms = append(forms, strings.TrimSpace(plain.String())[1:plain.Len()-2])
		}
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= minLine {
				forms = append(forms, line)
			}
		}
	}
	slices.Sort(forms)
	m := &Masker{}
	for _, form := range slices.Compact(forms) {
		if len(form) >= minMasked {
			m.values = append(m.values, []byte(form))
		}
	}
	if len(m.values) == 0 {
		return nil
	}
	return m
}

// Longest is the number of bytes of the longest value.
func (m *Masker) Longest() int {
	n := 0
	if m != nil {
		for _, value := range m.values {
			n = max(n, len(value))
		}
	}
	return n
}

// span is a range of bytes.
type span struct{ From, To int }

// find returns where values stand in text; the spans may overlap.
func (m *Masker) find(text []byte) []span {
	var spans []span
	if m == nil {
		return nil
	}
	for _, value := range m.values {
		for at := 0; ; {
			i := bytes.Index(text[at:], value)
			if i < 0 {
				break
			}
			spans = append(spans, span{at + i, at + i + len(value)})
			at += i + 1
		}
	}
	return spans
}

// star replaces the spans that lie in text.
func star(text []byte, spans []span) {
	for _, found := range spans {
		for i := found.From; i < min(found.To, len(text)); i++ {
			text[i] = '*'
		}
	}
}

// Mask replaces values in text, in place, and reports whether there were any.
func (m *Masker) Mask(text []byte) bool {
	spans := m.find(text)
	star(text, spans)
	return len(spans) > 0
}

// ready is how much of text can be shown: what follows may be the beginning of a
// value, or belongs to one that may go on.
func (m *Masker) ready(text []byte, spans []span) int {
	ready := len(text) - m.pending(text)
	for moved := true; moved; {
		moved = false
		for _, found := range spans {
			if found.From < ready && ready < found.To {
				ready, moved = found.From, true
			}
		}
	}
	return ready
}

// pending is the length of the longest end of text that may be the beginning of a
// value: what has to wait for more text before it is shown.
func (m *Masker) pending(text []byte) int {
	longest := 0
	if m == nil {
		return 0
	}
	for _, value := range m.values {
		for n := min(len(value)-1, len(text)); n > longest; n-- {
			if bytes.HasSuffix(text, value[:n]) {
				longest = n
				break
			}
		}
	}
	return longest
}

// String returns text with values replaced.
func (m *Masker) String(text string) string {
	if m == nil || text == "" {
		return text
	}
	raw := []byte(text)
	if !m.Mask(raw) {
		return text
	}
	return string(raw)
}

// Object replaces values in all texts of doc, in place, also in its keys.
func (m *Masker) Object(doc document.Object) document.Object {
	if m == nil {
		return doc
	}
	for key, value := range doc {
		masked := m.String(key)
		if masked != key {
			delete(doc, key)
		}
		doc[masked] = m.value(value)
	}
	return doc
}

func (m *Masker) value(value any) any {
	switch v := value.(type) {
	case string:
		return m.String(v)
	case document.Object:
		return m.Object(v)
	case []any:
		for i, item := range v {
			v[i] = m.value(item)
		}
	case []string:
		for i, item := range v {
			v[i] = m.String(item)
		}
	}
	return value
}
