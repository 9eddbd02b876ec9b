package tune

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// StopCondition is a compiled expression over the results of an iteration, written
// as in Python: names of results, numbers, texts, comparisons (also a < x < b),
// + - * / % **, and, or, not, in, is None, True, False, None, x["key"], the
// functions len, min, max, abs, round, floor, ceil, int, float and sum, and
// get("name", value), which is value where an iteration has no such result.
type StopCondition struct {
	text    string
	program *vm.Program
	names   []string
}

// functions are the names that a condition may call.
var functions = []string{"len", "min", "max", "abs", "round", "floor", "ceil", "int", "float", "sum"}

// getter is the function that looks a result up by a text.
const getter = "get"

// keywords are Python's, which name nothing; those that are operators or values
// here are left out.
var keywords = []string{
	"as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "except", "finally", "from", "global", "import",
	"nonlocal", "pass", "raise", "return", "try", "while", "with", "yield",
}

// CompileStop compiles a condition; "" gives nil. It refuses what can be no name of
// a result, and calls of anything but the functions. Errors carry fault.CodeInvalid.
func CompileStop(text string) (*StopCondition, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	source, err := fromPython(text)
	if err != nil {
		return nil, err
	}
	calls := &calleeFinder{callees: map[ast.Node]bool{}}
	rewrite := &rewriter{callees: calls.callees}
	options := []expr.Option{
		expr.AllowUndefinedVariables(), expr.Optimize(false), expr.DisableAllBuiltins(), expr.MaxNodes(2000),
		expr.Patch(calls), expr.Patch(rewrite),
		expr.Function("$name", nameOf, new(func(map[string]any, string) any)),
		expr.Function("$get", valueOr, new(func(map[string]any, string, any) any)),
		expr.Function("$truth", func(args ...any) (any, error) { return truth(args[0]), nil }, new(func(any) bool)),
		expr.Function("$op", arithmetic, new(func(string, any, any) any)),
	}
	for _, name := range functions {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(source, append(options, expr.Env(map[string]any{"$results": map[string]any{}}))...)
	if problem := cmp.Or(calls.problem, rewrite.problem); problem != "" {
		return nil, fault.Invalid("stop_condition %q: %s", text, problem)
	}
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fault.Invalid("stop_condition %q: %s", text, reason)
	}
	return &StopCondition{text: text, program: program, names: rewrite.names}, nil
}

// Names are the results that the condition speaks of, without those that it only
// asks get for.
func (c *StopCondition) Names() []string { return c.names }

// Holds evaluates the condition over the results of an iteration, with Python's
// truth of the value. An error says why it cannot be evaluated for them.
func (c *StopCondition) Holds(results document.Object) (bool, error) {
	value, err := expr.Run(c.program, map[string]any{"$results": plain(results)})
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		reason, _, _ = strings.Cut(reason, " (1:")
		return false, fault.Invalid("stop_condition %q cannot be evaluated: %s", c.text, reason)
	}
	return truth(value), nil
}

// fromPython rewrites what the expression language spells differently, outside of
// texts, and refuses what it would misread.
func fromPython(text string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\'':
			end := i + 1
			for end < len(text) && text[end] != c {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(text))
			out.WriteString(text[i:end])
			i = end
		case strings.HasPrefix(text[i:], "//"):
			return "", fault.Invalid("stop_condition %q: // is not available; use floor(a / b)", text)
		case strings.ContainsRune("#$?;{}|`&:", rune(c)), strings.HasPrefix(text[i:], "/*"):
			return "", fault.Invalid("stop_condition %q: %q is not part of a condition", text, c)
		case wordByte(c):
			end := i
			for end < len(text) && (wordByte(text[end]) || text[end] >= '0' && text[end] <= '9') {
				end++
			}
			word := text[i:end]
			switch word {
			case "True":
				word = "true"
			case "False":
				word = "false"
			case "None":
				word = "nil"
			case "is":
				word = "=="
				rest := strings.TrimLeft(text[end:], " \t\n")
				if strings.HasPrefix(rest, "not ") {
					word, end = "!=", len(text)-len(rest)+len("not ")
				}
				word = " " + word + " "
			case "if", "else", "let", "lambda", "for", "matches", "contains", "startsWith", "endsWith":
				return "", fault.Invalid("stop_condition %q: %q is not part of a condition", text, word)
			}
			out.WriteString(word)
			i = end
		case c >= '0' && c <= '9': // 1e5 is one word
			end := i
			for end < len(text) && (text[end] >= '0' && text[end] <= '9' || wordByte(text[end]) || text[end] == '.') {
				end++
			}
			out.WriteString(text[i:end])
			i = end
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String(), nil
}

func wordByte(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }

// calleeFinder collects the nodes that name a function, which are no results, and
// makes get a look-up.
type calleeFinder struct {
	callees map[ast.Node]bool
	problem string // the first one
}

func (f *calleeFinder) Visit(node *ast.Node) {
	called, ok := (*node).(*ast.CallNode)
	if !ok {
		return
	}
	callee, named := called.Callee.(*ast.IdentifierNode)
	if !named {
		f.problem = cmp.Or(f.problem, "only functions can be called: "+strings.Join(append(slices.Clone(functions), getter), ", "))
		return
	}
	f.callees[called.Callee] = true
	if callee.Value != getter {
		return
	}
	if len(called.Arguments) == 2 {
		if name, text := called.Arguments[0].(*ast.StringNode); text {
			ast.Patch(node, call("$get", &ast.IdentifierNode{Value: "$results"}, name, called.Arguments[1]))
			return
		}
	}
	f.problem = cmp.Or(f.problem, `get needs the name of a result as a text and the value to take without it, for instance get("accuracy", 0)`)
}

// rewriter gives the tree Python's meaning: names are looked up among the results
// (an unknown one fails, when it is reached), truth is Python's, dividing by zero
// fails.
type rewriter struct {
	callees   map[ast.Node]bool
	names     []string
	problem   string // the first one
	variables int
}

func (r *rewriter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if r.callees[n] || strings.HasPrefix(n.Value, "$") {
			return
		}
		if strings.HasPrefix(n.Value, "__") || slices.Contains(keywords, n.Value) {
			r.problem = cmp.Or(r.problem, fmt.Sprintf("%s is no name of a result", n.Value))
		}
		if !slices.Contains(r.names, n.Value) {
			r.names = append(r.names, n.Value)
		}
		ast.Patch(node, call("$name", &ast.IdentifierNode{Value: "$results"}, &ast.StringNode{Value: n.Value}))
	case *ast.MemberNode:
		if key, ok := n.Property.(*ast.StringNode); ok && strings.HasPrefix(key.Value, "__") {
			r.problem = cmp.Or(r.problem, fmt.Sprintf("%s is no key of a result", key.Value))
		}
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			n.Node = call("$truth", n.Node)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&":
			r.choose(node, n.Left, func(left ast.Node) (ast.Node, ast.Node) { return n.Right, left })
		case "or", "||":
			r.choose(node, n.Left, func(left ast.Node) (ast.Node, ast.Node) { return left, n.Right })
		case "/", "%", "**", "^":
			ast.Patch(node, call("$op", &ast.StringNode{Value: n.Operator}, n.Left, n.Right))
		}
	}
}

// choose makes node a choice by the truth of left, which is evaluated once; arms
// returns what is taken when it is true and when it is false.
func (r *rewriter) choose(node *ast.Node, left ast.Node, arms func(ast.Node) (ast.Node, ast.Node)) {
	r.variables++
	name := fmt.Sprintf("$v%d", r.variables)
	variable := func() ast.Node { return &ast.IdentifierNode{Value: name} }
	yes, no := arms(variable())
	ast.Patch(node, &ast.VariableDeclaratorNode{
		Name: name, Value: left, Expr: &ast.ConditionalNode{Cond: call("$truth", variable()), Exp1: yes, Exp2: no},
	})
}

func call(name string, args ...ast.Node) *ast.CallNode {
	return &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args}
}

func nameOf(args ...any) (any, error) {
	results, _ := args[0].(map[string]any)
	name, _ := args[1].(string)
	value, ok := results[name]
	if !ok {
		return nil, fmt.Errorf("the iteration has no result %q", name)
	}
	return value, nil
}

func valueOr(args ...any) (any, error) {
	results, _ := args[0].(map[string]any)
	name, _ := args[1].(string)
	if value, ok := results[name]; ok {
		return value, nil
	}
	return args[2], nil
}

func arithmetic(args ...any) (any, error) {
	op, _ := args[0].(string)
	a, okA := number(args[1])
	b, okB := number(args[2])
	if _, text := args[1].(string); text || !okA {
		return nil, fmt.Errorf("%v is not a number", args[1])
	}
	if _, text := args[2].(string); text || !okB {
		return nil, fmt.Errorf("%v is not a number", args[2])
	}
	switch op {
	case "/", "%":
		if b == 0 {
			return nil, fmt.Errorf("division by zero")
		}
		if op == "/" {
			return a / b, nil
		}
		return a - b*math.Floor(a/b), nil
	case "^":
		return nil, fmt.Errorf("^ is not available; use ** for a power")
	}
	return math.Pow(a, b), nil
}

func truth(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case int:
		return v != 0
	case int64:
		return v != 0
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// plain turns the numbers of a document into Go's.
func plain(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		f, _ := document.ToFloat(v)
		return f
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = plain(item)
		}
		return out
	case document.Object:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = plain(item)
		}
		return out
	case int64:
		return int(v)
	}
	return value
}
