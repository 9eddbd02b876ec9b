package datastore

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// ParseRange reads a Range header with one range of bytes; partial tells whether
// there is one. A negative offset counts from the end. Errors carry
// fault.CodeInvalid.
func ParseRange(text string) (r Range, partial bool, err error) {
	if text == "" {
		return r, false, nil
	}
	spec, ok := strings.CutPrefix(text, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return r, false, fault.Invalid("the range %q is not one range of bytes, such as bytes=0-99", text)
	}
	from, fromErr := strconv.ParseInt(first, 10, 64)
	to, toErr := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "" && toErr == nil && to > 0:
		return Range{Offset: -to}, true, nil
	case fromErr == nil && from >= 0 && last == "":
		return Range{Offset: from}, true, nil
	case fromErr == nil && from >= 0 && toErr == nil && to >= from && to < 1<<62:
		return Range{Offset: from, Length: to - from + 1}, true, nil
	}
	return r, false, fault.Invalid("the range %q is not one range of bytes, such as bytes=0-99", text)
}
