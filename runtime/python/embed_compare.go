package python

import _ "embed"

// Compare is the script of millrace_compare: two sources as JSON on standard
// input, whether they do the same as JSON on standard output. It is meant for
// "python -I -S -c".
//
//go:embed millrace_compare/__main__.py
var Compare string
