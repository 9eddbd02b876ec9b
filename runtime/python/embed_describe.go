package python

import _ "embed"

// Describe is the script of millrace_describe: source on standard input, its entry
// points as JSON on standard output. It is meant for "python -I -S -c".
//
//go:embed millrace_describe/__main__.py
var Describe string
