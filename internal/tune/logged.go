package tune

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Logged are the names of the results that iterations have logged. The zero value
// has none.
type Logged struct {
	names []string // in the order of the alphabet
	more  bool     // there are more than that, which are not known
}

// maxLogged bounds the names that are kept: they are part of what is written down
// whenever iterations end.
const maxLogged = 64

// Lacks reports whether no iteration has logged a result, as far as is known.
func (l Logged) Lacks(name string) bool { return len(l.lacks([]string{name})) > 0 }

func (l *Logged) empty() bool { return len(l.names) == 0 }

// add takes in the results of an iteration.
func (l *Logged) add(results document.Object) {
	for name := range results {
		i, found := slices.BinarySearch(l.names, name)
		switch {
		case found:
		case len(l.names) == maxLogged:
			l.more = true
			return
		default:
			l.names = slices.Insert(l.names, i, name)
		}
	}
}

// lacks returns those of names that are none of l; none when that is not known.
func (l *Logged) lacks(names []string) []string {
	if l.more {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, found := slices.BinarySearch(l.names, name)
		return found
	})
}

func (l Logged) String() string {
	switch {
	case len(l.names) == 0:
		return "there are no results"
	case l.more:
		return "results are " + strings.Join(l.names, ", ") + " and more"
	}
	return "results are " + strings.Join(l.names, ", ")
}

// Document is what LoggedOf reads; nil when no name is known.
func (l Logged) Document() []any {
	if l.more {
		return nil
	}
	var out []any
	for _, name := range l.names {
		out = append(out, name)
	}
	return out
}

// LoggedOf reads the names that the state of a task as it is written down has.
func LoggedOf(doc document.Object) Logged {
	var l Logged
	for _, name := range document.List(doc, "results") {
		if text, ok := name.(string); ok {
			l.names = append(l.names, text)
		}
	}
	slices.Sort(l.names)
	return l
}

// unknownText says that no iteration logs some names of a stop condition. parameters
// are the names of the task's.
func unknownText(condition string, missing []string, l Logged, parameters []string) string {
	quoted := make([]string, len(missing))
	for i, name := range missing {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	text := fmt.Sprintf("stop_condition %q: no iteration logs %s; %s", condition, strings.Join(quoted, ", "), l)
	for _, name := range missing {
		if slices.Contains(parameters, name) {
			return text + fmt.Sprintf(", and the parameter %q is not one of them", name)
		}
	}
	if l.empty() {
		return text
	}
	return text + fmt.Sprintf(" (of one that only some log, write get(%s, 0) or another value to take without it)", quoted[0])
}

// CheckLogged refuses a change of the stop condition to one with a name that no
// iteration has logged so far. Before any has, nothing is refused.
func (s Steering) CheckLogged(l Logged) error {
	if s.StopCondition == nil || l.empty() {
		return nil
	}
	stop, err := CompileStop(*s.StopCondition)
	if err != nil || stop == nil {
		return err
	}
	if missing := l.lacks(stop.Names()); len(missing) > 0 {
		return fault.Invalid("%s", unknownText(*s.StopCondition, missing, l, nil))
	}
	return nil
}
