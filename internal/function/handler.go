package function

import (
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Handler is a parsed handler: what is called when a function runs.
//
//	train                  {Name: train}                       in the function's code
//	pkg.mod.train          {Module: pkg.mod, Name: train}      imported
//	Model::fit             {Class: Model, Name: fit}           in the function's code
//	pkg.mod.Model::fit     {Module: pkg.mod, Class: Model, Name: fit}
//
// An expression in parentheses, which other engines evaluate, is refused: it would
// be code that neither the function's version nor its entry points show, and a
// function with a name says the same.
type Handler struct {
	Module string // dotted; "" means the function's own code
	Class  string // "" for a plain function
	Name   string // of the function or method
}

var identifier = lazyregexp.New(`\A[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*\z`)

// ParseHandler reads a handler. The empty text gives the zero Handler: the code
// runs as a program.
func ParseHandler(text string) (Handler, error) {
	const forms = "use function, package.module.function or Class::method"
	if text == "" {
		return Handler{}, nil
	}
	if strings.HasPrefix(text, "(") {
		return Handler{}, fault.Invalid("handler %q is an expression, which is not evaluated; put it into a function and name that", cut(text))
	}
	var h Handler
	target := text
	if class, method, ok := strings.Cut(text, "::"); ok {
		h.Name, target = method, class
		if strings.Contains(method, ".") && !strings.Contains(method, ":") {
			return Handler{}, fault.Invalid("handler %q: write package.module.Class::method, with '::' before the method only", cut(text))
		}
	}
	name := target
	if dot := strings.LastIndexByte(target, '.'); dot >= 0 {
		h.Module, name = target[:dot], target[dot+1:]
	}
	if target == text {
		h.Name = name
	} else {
		h.Class = name
		if !identifier.MatchString(h.Class) {
			return Handler{}, fault.Invalid("handler %q names no class before '::'; %s", cut(text), forms)
		}
	}
	if !identifier.MatchString(h.Name) {
		return Handler{}, fault.Invalid("handler %q does not end in the name of a function; %s", cut(text), forms)
	}
	if h.Module != "" || strings.HasPrefix(target, ".") {
		for part := range strings.SplitSeq(h.Module, ".") {
			if !identifier.MatchString(part) {
				return Handler{}, fault.Invalid("handler %q has %q where the name of a module must be; %s", cut(text), cut(part), forms)
			}
		}
	}
	return h, nil
}

// IsZero reports that there is no handler.
func (h Handler) IsZero() bool { return h == Handler{} }

// String is the inverse of ParseHandler.
func (h Handler) String() string {
	text := h.Name
	if h.Class != "" {
		text = h.Class + "::" + text
	}
	if h.Module != "" {
		text = h.Module + "." + text
	}
	return text
}

// DefaultRunName returns the name of a run that was given none: the function's
// name, followed by a dash and the short handler — what stands after the last of
// '#', "::" and '.' — when there is a handler; normalised.
func DefaultRunName(function, handler string) string {
	for _, separator := range []string{"#", "::", "."} {
		if at := strings.LastIndex(handler, separator); at >= 0 {
			handler = handler[at+len(separator):]
		}
	}
	if handler != "" {
		function += "-" + handler
	}
	return NormalizeName(function)
}
