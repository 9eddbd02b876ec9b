package function

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Keys of spec.state_thresholds: how long a run may stay in a state.
const (
	ThresholdPendingScheduled    = "pending_scheduled"
	ThresholdPendingNotScheduled = "pending_not_scheduled"
	ThresholdImagePullBackoff    = "image_pull_backoff"
	ThresholdExecuting           = "executing"
)

// Infinite is the duration of a threshold that is never reached ("-1").
const Infinite time.Duration = -1

// ThresholdStates lists the keys of state_thresholds.
func ThresholdStates() []string {
	return []string{ThresholdPendingScheduled, ThresholdPendingNotScheduled, ThresholdImagePullBackoff, ThresholdExecuting}
}

// DefaultThresholds returns the thresholds of a run that sets none.
func DefaultThresholds() map[string]string {
	return map[string]string{
		ThresholdPendingScheduled: "1h", ThresholdPendingNotScheduled: "-1",
		ThresholdImagePullBackoff: "1h", ThresholdExecuting: "24h",
	}
}

// ParseThreshold reads a state threshold: a duration of a second or more, or "-1"
// for Infinite.
func ParseThreshold(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil && n == -1 {
		return Infinite, nil
	}
	d, err := ParseDuration(text)
	if err == nil && d < time.Second {
		err = fault.Invalid("%q is under a second; use 1s or more, or -1 for no limit", cut(text))
	}
	if err != nil {
		return 0, err
	}
	return d, nil
}

var (
	durationPart   = lazyregexp.New(`\A[\s,]*(?:and\s+)?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zµμ]+)\.?`)
	clockPattern   = lazyregexp.New(`\A([0-9]+):([0-5]?[0-9])(?::([0-5]?[0-9]))?\z`)
	versionPattern = lazyregexp.New(`\A[0-9]{1,3}(\.[0-9]{1,3}){0,2}t?\z`)
)

var units = map[string]time.Duration{
	"ms": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "wk": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// ParseDuration reads a time span as people write it: "1h", "30m", "1h30m",
// "2 days", "1 hour and 30 minutes", "01:30:00", or a bare number of seconds. It
// is never negative.
func ParseDuration(text string) (time.Duration, error) {
	wrong := func() (time.Duration, error) {
		return 0, fault.Invalid(`%q is not a duration; write it as "30s", "10m", "1h30m" or "2 days"`, cut(text))
	}
	rest := strings.ToLower(strings.TrimSpace(text))
	if rest == "" || len(rest) > 128 {
		return wrong()
	}
	if seconds, err := strconv.ParseFloat(rest, 64); err == nil {
		if strings.ContainsAny(rest, "xpin_-") || math.IsNaN(seconds) {
			return wrong()
		}
		return span(text, seconds*float64(time.Second))
	}
	if clock := clockPattern.FindStringSubmatch(rest); clock != nil { // h:mm[:ss]
		hours, _ := strconv.ParseFloat(clock[1], 64)
		minutes, _ := strconv.ParseFloat(clock[2], 64)
		seconds, _ := strconv.ParseFloat("0"+clock[3], 64)
		return span(text, (hours*3600+minutes*60+seconds)*float64(time.Second))
	}
	total := 0.0
	for rest != "" {
		part := durationPart.FindStringSubmatch(rest)
		if part == nil {
			return wrong()
		}
		unit, ok := units[part[2]]
		if !ok {
			unit, ok = units[strings.TrimSuffix(part[2], "s")]
		}
		if !ok {
			return wrong()
		}
		amount, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return wrong()
		}
		total += amount * float64(unit)
		rest = strings.TrimSpace(rest[len(part[0]):])
	}
	return span(text, total)
}

func span(text string, nanoseconds float64) (time.Duration, error) {
	if nanoseconds > math.MaxInt64/2 {
		return 0, fault.Invalid("%q is too long a duration; use -1 where no limit is meant", cut(text))
	}
	return time.Duration(math.Round(nanoseconds)), nil
}

// Retry is what spec.retry asks for: Count more attempts after the first, with
// BaseDelay (a duration such as "30s") before the first of them, doubled for
// each further one.
type Retry struct {
	Count     int
	BaseDelay string
}

// Limits and default of retries.
const (
	MaxRetries     = 100
	DefaultBackoff = 30 * time.Second
	maxBackoff     = 24 * time.Hour
)

// Delay returns how long to wait before retry number n, counted from 1:
// BaseDelay (DefaultBackoff when it is not given) times 2^(n-1), at most a day.
func (r Retry) Delay(n int) (time.Duration, error) {
	delay := DefaultBackoff
	if r.BaseDelay != "" {
		var err error
		if delay, err = ParseDuration(r.BaseDelay); err != nil {
			return 0, fault.Invalid("spec.retry.backoff.base_delay: %w", err)
		}
	}
	for ; n > 1 && delay < maxBackoff; n-- {
		delay *= 2
	}
	return min(delay, maxBackoff), nil
}

// ParseRetry reads spec.retry: {count, backoff: {base_delay}}; a base_delay beside
// count counts when there is no backoff. Errors name the field.
func ParseRetry(object document.Object) (Retry, error) {
	if len(object) == 0 {
		return Retry{}, nil
	}
	r := reader{object: document.Object{"retry": object}}
	count, ok := document.ToInt(object["count"])
	if object["count"] != nil && (!ok || count < 0 || count > MaxRetries) {
		r.fail([]string{"retry", "count"}, "must be a whole number from 0 to %d", MaxRetries)
	}
	delay := r.scalar("retry", "backoff", "base_delay")
	if delay == "" {
		delay = r.scalar("retry", "base_delay")
	}
	return Retry{Count: int(count), BaseDelay: delay}, r.err
}
