package sdk

import "embed"

// Source is the source of this package, from which functions are built that come
// without a module of their own.
//
//go:embed *.go
var Source embed.FS
