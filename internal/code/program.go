package code

import (
	"bytes"
	"go/parser"
	"go/scanner"
	"go/token"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// codeFile in a command stands for the path of the function's code file.
const codeFile = "{codefile}"

// script embeds a shell script, or any text with a "#!" line. Its command is the
// interpreter of that line — bash when there is none — and the code file.
func (o Options) script(ref string) (*function.Function, error) {
	source, err := readSource(ref)
	if err != nil {
		return nil, err
	}
	f, err := o.begin(ref)
	if err != nil {
		return nil, err
	}
	if o.Handler != "" {
		return nil, fault.Invalid("%s is a script and has no handler %q; leave the handler out", ref, o.Handler)
	}
	f.SetCode(source, filepath.ToSlash(ref))
	f.SetSpec(origin(ref), "build", "code_origin")
	f.SetSpec(function.LanguageShell, "language")
	command := append(interpreter(source), codeFile)
	f.SetSpec(strings.Join(command, " "), "command")
	f.SetSpec(function.ModePass, "mode")
	return f, nil
}

// interpreter returns the quoted words of a script's first line.
func interpreter(source []byte) []string {
	line, _, _ := bytes.Cut(source, []byte("\n"))
	words := strings.Fields(strings.TrimPrefix(string(line), "#!"))
	if !bytes.HasPrefix(line, []byte("#!")) || len(words) == 0 {
		return []string{"bash"}
	}
	for i, word := range words {
		words[i] = function.Quote(word)
	}
	return words
}

// executable makes a function of a file that may be executed: a script is
// embedded, a binary stays where it is and is named by its absolute path.
func (o Options) executable(ref string) (*function.Function, error) {
	data, err := readFile(ref)
	if fault.Is(err, fault.CodeTooLarge) {
		data, err = nil, nil // no script is that large
	}
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte("#!")) {
		return o.script(ref)
	}
	if data != nil && !machineCode(data) {
		return nil, fault.Invalid("%s is executable but neither a program of this machine nor a script; begin a script with a line such as #!/bin/sh", ref)
	}
	if o.Handler != "" {
		return nil, fault.Invalid("%s is a program and has no handler %q; leave the handler out", ref, o.Handler)
	}
	path, err := filepath.Abs(ref)
	if err != nil {
		return nil, fault.Invalid("%s cannot be made an absolute path: %w", ref, err)
	}
	f, err := o.begin(ref)
	if err != nil {
		return nil, err
	}
	f.SetSpec(function.Quote(path), "command")
	f.SetSpec(function.ModePass, "mode")
	return f, nil
}

// machineCode reports whether data begins like an ELF or Mach-O file.
func machineCode(data []byte) bool {
	for _, magic := range []string{"\x7fELF", "\xcf\xfa\xed\xfe", "\xce\xfa\xed\xfe", "\xca\xfe\xba\xbe"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return true
		}
	}
	return false
}

// goFile embeds a Go main package of one file.
func (o Options) goFile(ref string) (*function.Function, error) {
	source, err := readSource(ref)
	if err != nil {
		return nil, err
	}
	if err := checkGoMain(ref, source); err != nil {
		return nil, err
	}
	if o.Handler != "" {
		return nil, goHandler(ref, o.Handler)
	}
	f, err := o.begin(ref)
	if err != nil {
		return nil, err
	}
	f.SetCode(source, filepath.ToSlash(ref))
	f.SetSpec(origin(ref), "build", "code_origin")
	f.SetSpec(function.LanguageGo, "language")
	return f, nil
}

func goHandler(ref, handler string) error {
	return fault.Invalid("%s is a Go main package, which runs as a program and has no handler %q; leave the handler out", ref, handler)
}

// checkGoMain refuses Go source that does not parse or is not of package main.
func checkGoMain(ref string, source []byte) error {
	name, err := goPackage(ref, source)
	if err == nil && name != "main" {
		err = fault.Invalid("%s is of package %s; a function in Go must be of package main", ref, name)
	}
	return err
}

func goPackage(ref string, source []byte) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), ref, source, parser.SkipObjectResolution)
	if list, ok := err.(scanner.ErrorList); ok && len(list) > 0 { //nolint:errorlint // the parser returns exactly this type
		return "", fault.Invalid("%s:%d: %s", ref, list[0].Pos.Line, list[0].Msg)
	}
	if err != nil {
		return "", fault.Invalid("%s cannot be parsed: %w", ref, err)
	}
	return file.Name.Name, nil
}
