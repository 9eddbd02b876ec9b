// Package python holds the Python runtime that runs beside user code. The very
// files that are tested here are what the binary embeds.
package python

import "embed"

// FS holds boot.py, which starts a worker, and the package millrace.
//
//go:embed boot.py millrace/*.py millrace/facade/*.py
var FS embed.FS
