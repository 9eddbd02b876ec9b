package env

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/lazyregexp"
)

// An environment marker is a condition such as python_version < "3.11" and
// sys_platform == "linux". pip evaluates it; here it is only checked, so that a
// malformed one is refused where it was written, and brought to one spelling.

var (
	markerToken = lazyregexp.New(`^(?:\(|\)|"[^"]*"|'[^']*'|===|~=|==|!=|<=|>=|<|>|[A-Za-z_.]+)`)
	markerNames = map[string]bool{
		"python_version": true, "python_full_version": true, "os_name": true, "sys_platform": true,
		"platform_release": true, "platform_system": true, "platform_version": true, "platform_machine": true,
		"platform_python_implementation": true, "implementation_name": true, "implementation_version": true,
		"extra": true, "os.name": true, "sys.platform": true, "platform.version": true,
		"platform.machine": true, "platform.python_implementation": true, "python_implementation": true,
	}
	markerOperators = map[string]bool{
		"===": true, "~=": true, "==": true, "!=": true, "<=": true, ">=": true, "<": true, ">": true,
		"in": true, "not in": true,
	}
)

// maxMarkerDepth bounds nested parentheses.
const maxMarkerDepth = 50

type markerParser struct {
	tokens []string
	pos    int
}

// parseMarker checks a marker and returns it with single blanks and double quotes.
func parseMarker(text string) (string, error) {
	var tokens []string
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		token := markerToken.FindString(rest)
		if token == "" {
			return "", fmt.Errorf("the condition %q is malformed at %q", strings.TrimSpace(text), rest)
		}
		rest = rest[len(token):]
		if token[0] == '\'' && !strings.Contains(token, `"`) {
			token = `"` + token[1:len(token)-1] + `"`
		}
		if n := len(tokens); token == "in" && n > 0 && tokens[n-1] == "not" {
			tokens[n-1] = "not in"
			continue
		}
		tokens = append(tokens, token)
	}
	p := markerParser{tokens: tokens}
	if err := p.alternatives(0); err != nil {
		return "", fmt.Errorf("the condition %q is malformed: %w", strings.TrimSpace(text), err)
	}
	if p.pos < len(tokens) {
		return "", fmt.Errorf("the condition %q is malformed at %q", strings.TrimSpace(text), tokens[p.pos])
	}
	return strings.Join(tokens, " "), nil
}

func (p *markerParser) next() string {
	if p.pos >= len(p.tokens) {
		return ""
	}
	p.pos++
	return p.tokens[p.pos-1]
}

func (p *markerParser) peek() string {
	if p.pos >= len(p.tokens) {
		return ""
	}
	return p.tokens[p.pos]
}

// alternatives reads conditions joined by "and" and "or"; which binds closer
// does not matter for checking.
func (p *markerParser) alternatives(depth int) error {
	for {
		if err := p.condition(depth); err != nil {
			return err
		}
		if op := p.peek(); op != "and" && op != "or" {
			return nil
		}
		p.pos++
	}
}

func (p *markerParser) condition(depth int) error {
	if p.peek() == "(" {
		if depth >= maxMarkerDepth {
			return fmt.Errorf("too many parentheses")
		}
		p.pos++
		if err := p.alternatives(depth + 1); err != nil {
			return err
		}
		if p.next() != ")" {
			return fmt.Errorf("a parenthesis is not closed")
		}
		return nil
	}
	left, op, right := p.next(), p.next(), p.next()
	if !isMarkerValue(left) {
		return fmt.Errorf("%q is neither a name such as python_version nor a quoted text", left)
	}
	if !markerOperators[op] {
		return fmt.Errorf("%q is no comparison", op)
	}
	if !isMarkerValue(right) {
		return fmt.Errorf("%q is neither a name such as python_version nor a quoted text", right)
	}
	return nil
}

func isMarkerValue(token string) bool {
	return markerNames[token] || len(token) >= 2 && (token[0] == '"' || token[0] == '\'')
}
