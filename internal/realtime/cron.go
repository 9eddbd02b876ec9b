package realtime

import (
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Timetable says when a cron trigger fires next.
type Timetable interface {
	// Next returns the first time after t; the zero time if there is none.
	Next(t time.Time) time.Time
}

type every time.Duration

func (e every) Next(t time.Time) time.Time { return t.Add(time.Duration(e)) }

// schedule is a set of times by the fields of cron, each a set of bits.
type schedule struct {
	second, minute, hour, day, month, weekday uint64
	anyDay, anyWeekday                        bool // a field of stars: the other one alone decides
	zone                                      *time.Location
}

var descriptors = map[string]string{
	"@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
	"@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}

// leastInterval bounds how often a trigger fires.
const leastInterval = time.Millisecond

// Timetable returns when c fires; fault.CodeInvalid if that cannot be made out.
func (c *Cron) Timetable() (Timetable, error) {
	if c == nil || c.Interval == 0 && c.Schedule == "" {
		return nil, fault.Invalid("a cron trigger needs a schedule or an interval")
	}
	if c.Interval != 0 {
		if c.Interval < leastInterval {
			return nil, fault.Invalid("the interval %s is below %s", c.Interval, leastInterval)
		}
		return every(c.Interval), nil
	}
	zone := time.Local
	if c.Zone != "" {
		var err error
		if zone, err = time.LoadLocation(c.Zone); err != nil {
			return nil, fault.Invalid("the time zone %q is not known here", c.Zone)
		}
	}
	return parseSchedule(c.Schedule, zone)
}

func parseSchedule(text string, zone *time.Location) (Timetable, error) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "@every "); ok {
		interval, err := time.ParseDuration(strings.TrimSpace(rest))
		if err != nil || interval < leastInterval {
			return nil, fault.Invalid("the schedule %q names no duration such as 1h30m", text)
		}
		return every(interval), nil
	}
	fields := strings.Fields(text)
	if strings.HasPrefix(text, "@") {
		fields = strings.Fields(descriptors[strings.ToLower(text)])
	}
	switch len(fields) {
	case 5:
		fields = append([]string{"0"}, fields...)
	case 6:
		if fields[0] == "*" { // as Nuclio has it: once a minute, not each second
			fields[0] = "0"
		}
	default:
		return nil, fault.Invalid("the schedule %q is none: it has five fields (minute hour day month weekday), six with seconds first, or is @hourly, @daily, @weekly, @monthly, @yearly or @every 5m", text)
	}
	s := schedule{zone: zone}
	for i, f := range []struct {
		into     *uint64
		from, to int
		names    string
	}{
		{&s.second, 0, 59, ""}, {&s.minute, 0, 59, ""}, {&s.hour, 0, 23, ""}, {&s.day, 1, 31, ""},
		{&s.month, 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"},
		{&s.weekday, 0, 7, "sun mon tue wed thu fri sat"},
	} {
		set, err := parseField(fields[i], f.from, f.to, strings.Fields(f.names))
		if err != nil {
			return nil, fault.Invalid("the schedule %q: %s", text, err)
		}
		*f.into = set
	}
	s.weekday |= s.weekday >> 7 & 1 // 7 is Sunday as well
	s.anyDay, s.anyWeekday = open(fields[3]), open(fields[5])
	if s.Next(time.Unix(0, 0)).IsZero() {
		return nil, fault.Invalid("the schedule %q names a day that never comes", text)
	}
	return s, nil
}

func open(field string) bool { return field[0] == '*' || field[0] == '?' }

func parseField(field string, from, to int, names []string) (uint64, error) {
	var set uint64
	for part := range strings.SplitSeq(field, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return 0, fault.Invalid("%q has no step that is a number over 0", part)
			}
		}
		low, high := from, to
		if span != "*" && span != "?" {
			first, last, ranged := strings.Cut(span, "-")
			var err error
			if low, err = number(first, from, to, names); err != nil {
				return 0, err
			}
			if ranged {
				if high, err = number(last, from, to, names); err != nil {
					return 0, err
				}
			} else if !stepped {
				high = low
			}
		}
		if low > high {
			return 0, fault.Invalid("%q runs backwards", part)
		}
		for v := low; v <= high; v += step {
			set |= 1 << v
		}
	}
	return set, nil
}

func number(text string, from, to int, names []string) (int, error) {
	for i, name := range names {
		if strings.EqualFold(text, name) {
			return from + i, nil
		}
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < from || value > to {
		return 0, fault.Invalid("%q is no number from %d to %d", text, from, to)
	}
	return value, nil
}

func (s schedule) dayFits(t time.Time) bool {
	day, weekday := s.day>>t.Day()&1 == 1, s.weekday>>int(t.Weekday())&1 == 1
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday // both are said: either will do
}

func (s schedule) Next(after time.Time) time.Time {
	t := after.In(s.zone).Truncate(time.Second).Add(time.Second)
	limit := t.Year() + 9 // 29 February may be eight years off
	for t.Year() <= limit {
		switch {
		case s.month>>int(t.Month())&1 == 0:
			t = later(t, time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, s.zone))
		case !s.dayFits(t):
			t = later(t, time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, s.zone))
		case s.hour>>t.Hour()&1 == 0:
			t = later(t, time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, s.zone).Add(time.Hour))
		case s.minute>>t.Minute()&1 == 0:
			t = t.Add(time.Duration(60-t.Second()) * time.Second)
		case s.second>>t.Second()&1 == 0:
			rest := s.second >> (t.Second() + 1)
			if rest == 0 {
				t = t.Add(time.Duration(60-t.Second()) * time.Second)
			} else {
				t = t.Add(time.Duration(1+bits.TrailingZeros64(rest)) * time.Second)
			}
		default:
			return t
		}
	}
	return time.Time{}
}

// later makes sure of progress where clocks are set back.
func later(t, next time.Time) time.Time {
	if !next.After(t) {
		return t.Add(time.Hour)
	}
	return next
}
