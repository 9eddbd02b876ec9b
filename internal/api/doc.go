// Package api serves MLRun's HTTP API over this system's stores and control
// loop, so that the stock mlrun Python package works against it unmodified.
//
// # Shape
//
// One table (routes.go) says everything about a route: method, path, parameters,
// body, answers and handler. The same table registers the routes, checks what
// handlers read from a request, and generates /api/openapi.json; so the document
// cannot drift from what is served. A handler parses, calls one service and
// renders. It returns an error instead of writing one; serve maps its fault code
// to a status and to the body shapes that clients of this API know (errors.go).
//
// # Paths
//
// Routes live under /api/v1 with /api as an exact alias, a few under /api/v2.
// Clients join addresses by plain concatenation, so repeated slashes and a slash
// at the end are accepted everywhere and never answered with a redirect, which
// would turn a POST into a GET.
//
// # Pages
//
// A page token holds the filters and the next page, so it survives a restart and
// works on any server. Clients before 1.8 cannot use it: they send the token of
// the first page again and again, expecting the server to remember where they
// are, and drop the page that comes without a token. They always want the whole
// list, so their request for the first page is answered with all of it, which
// needs no further request (page.go).
//
// # Where functions run
//
// The client decides by itself whether project.run_function() runs on the
// user's machine: it does when client-spec has no namespace, and up to 1.9 also
// when it has no kfp_url. Here it shall run on the server, so there is always a
// namespace, and clients up to 1.9 get a kfp_url as well. From 1.10 on kfp_url
// only chooses the engine of workflows, and is left empty so that they take the
// local engine. Older clients choose it with project.run(engine="local"); if they
// do not, POST pipelines refuses with a sentence that says so. nuclio_version
// is empty where no real-time functions are served: it is how clients find out,
// and then run them as mocks.
//
// # Who may call
//
// With a token every request needs it, except health and client-spec. Without
// one the server is open and therefore must listen on loopback (CheckExposure).
// A page in the user's browser can reach loopback too, so an open server
// refuses cross-origin writes and, on loopback, foreign host names.
package api
