package api

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// openAPI renders the OpenAPI 3.1 document of the routes.
func openAPI(table []*route, version string) []byte {
	paths := document.Object{}
	for _, rt := range table {
		for _, v := range rt.versions {
			path := "/api/" + v + strings.ReplaceAll(rt.path, "...}", "}")
			document.Ensure(paths, path)[strings.ToLower(rt.method)] = operation(rt, v)
		}
	}
	areas := []any{}
	for _, rt := range table {
		if !slices.ContainsFunc(areas, func(a any) bool { return a.(document.Object)["name"] == rt.area }) {
			areas = append(areas, document.Object{"name": rt.area})
		}
	}
	return document.Encode(document.Object{
		"openapi": "3.1.0",
		"info": document.Object{
			"title": "Millrace", "version": version,
			"description": "Functions, runs and artifacts over the HTTP API of MLRun. /api/… is an alias of /api/v1/…. " +
				"Repeated slashes and a slash at the end of a path are ignored, and so are unknown parameters.",
		},
		"tags":  areas,
		"paths": paths,
		"components": document.Object{
			"schemas": schemas(),
			"securitySchemes": document.Object{
				"token": document.Object{"type": "http", "scheme": "bearer", "description": "needed when the server was started with a token"},
			},
		},
		"security": []any{document.Object{}, document.Object{"token": []any{}}},
	})
}

func operation(rt *route, version string) document.Object {
	id := rt.id
	if len(rt.versions) > 1 || version != "v1" {
		id += strings.ToUpper(version)
	}
	op := document.Object{"operationId": id, "summary": rt.summary, "tags": []any{rt.area}, "responses": responses(rt)}
	if rt.open {
		op["security"] = []any{}
	}
	if params := parameters(rt); len(params) > 0 {
		op["parameters"] = params
	}
	if rt.body != nil {
		op["requestBody"] = document.Object{"required": !rt.body.optional, "content": contents(rt.body.schema, rt.body.media)}
	}
	return op
}

func contents(schema, media string) document.Object {
	if media != "" {
		return document.Object{media: document.Object{}}
	}
	return document.Object{"application/json": document.Object{"schema": ref(schema)}}
}

func ref(schema string) document.Object {
	return document.Object{"$ref": "#/components/schemas/" + schema}
}

func parameters(rt *route) []any {
	out := []any{}
	for segment := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			out = append(out, document.Object{"name": name, "in": "path", "required": true, "schema": document.Object{"type": "string"}})
		}
	}
	for _, p := range rt.params {
		where := "query"
		if p.typ == "header" {
			where = "header"
		}
		out = append(out, document.Object{"name": p.name, "in": where, "description": p.doc, "schema": parameterSchema(p)})
	}
	return out
}

func parameterSchema(p param) document.Object {
	switch p.typ {
	case "strings":
		return document.Object{"type": "array", "items": document.Object{"type": "string"}}
	case "integer":
		return document.Object{"type": "integer", "minimum": p.least}
	case "boolean":
		return document.Object{"type": "string", "pattern": "^(?i:true|t|1|yes|y|on|false|f|0|no|n|off)$"}
	case "time":
		return document.Object{"type": "string", "description": "ISO-8601; UTC when it has no offset"}
	case "enum":
		values := make([]any, len(p.values))
		for i, value := range p.values {
			values[i] = value
		}
		return document.Object{"type": "string", "enum": values}
	}
	return document.Object{"type": "string"}
}

func responses(rt *route) document.Object {
	out := document.Object{"default": document.Object{"description": "An error", "content": contents("Error", "")}}
	for _, a := range rt.answers {
		response := document.Object{"description": http.StatusText(a.status)}
		if a.schema != "" || a.media != "" {
			response["content"] = contents(a.schema, a.media)
		}
		if len(a.headers) > 0 {
			headers := document.Object{}
			for _, name := range a.headers {
				headers[name] = document.Object{"schema": document.Object{"type": "string"}}
			}
			response["headers"] = headers
		}
		out[strconv.Itoa(a.status)] = response
	}
	return out
}

// schemas describes the documents. They are open: clients and servers of other
// versions add keys, and documents are kept as they were received.
func schemas() document.Object {
	text := document.Object{"type": "string"}
	maybeText := document.Object{"type": []any{"string", "null"}}
	integer := document.Object{"type": "integer"}
	open := document.Object{"type": "object"}
	object := func(required []any, properties document.Object) document.Object {
		out := document.Object{"type": "object", "properties": properties}
		if len(required) > 0 {
			out["required"] = required
		}
		return out
	}
	array := func(items any) document.Object { return document.Object{"type": "array", "items": items} }
	words := func(values ...any) document.Object { return document.Object{"type": "string", "enum": values} }
	paged := func(key, schema string) document.Object {
		return object([]any{key, "pagination"}, document.Object{key: array(ref(schema)), "pagination": ref("Pagination")})
	}
	out := document.Object{
		"Object": open, "Null": document.Object{"type": "null"}, "List": document.Object{"type": "array"}, "Empty": object(nil, document.Object{}),
		"Error": object([]any{"detail"}, document.Object{"detail": document.Object{"anyOf": []any{
			document.Object{"type": "string", "minLength": 1}, object([]any{"reason"}, document.Object{"reason": text})}}}),
		"Health":     object([]any{"version", "status"}, document.Object{"version": text, "status": text}),
		"ClientSpec": object([]any{"version", "artifact_path", "namespace", "kfp_url"}, document.Object{"version": text, "artifact_path": text, "namespace": text, "kfp_url": text}),
		"Pagination": object([]any{"page", "page-size", "page-token"}, document.Object{
			"page": document.Object{"type": []any{"integer", "null"}}, "page-size": document.Object{"type": []any{"integer", "null"}}, "page-token": maybeText}),
		"Project": object([]any{"metadata"}, document.Object{
			"kind": text, "metadata": object([]any{"name"}, document.Object{"name": text}), "spec": open, "status": open}),
		"ProjectList": object([]any{"projects"}, document.Object{"projects": array(document.Object{"anyOf": []any{text, ref("Project")}})}),
		"Function": object(nil, document.Object{
			"kind": maybeText, "metadata": object(nil, document.Object{"name": text, "project": text, "tag": maybeText, "hash": maybeText}), "spec": open,
			"status": document.Object{"type": []any{"object", "null"}}}),
		"StoredFunction": object([]any{"hash_key"}, document.Object{"hash_key": document.Object{"type": "string", "pattern": "^[0-9a-f]{40}$"}}),
		"FunctionAnswer": object([]any{"func"}, document.Object{"func": ref("Function")}),
		"FunctionList":   paged("funcs", "Function"),
		"Run": object([]any{"metadata"}, document.Object{
			"kind": text, "metadata": object([]any{"name"}, document.Object{"name": text, "uid": text, "project": text, "iteration": integer, "labels": open}),
			"spec": open, "status": object(nil, document.Object{"state": words("created", "pending", "running", "pendingRetry", "aborting", "unknown", "completed", "error", "aborted", "skipped")})}),
		"RunAnswer": object([]any{"data"}, document.Object{"data": ref("Run")}),
		"RunList":   paged("runs", "Run"),
		"Updates":   document.Object{"type": "object", "description": `values by dotted path; a backslash begins and ends a stretch in which dots are part of the key`},
		"Artifact": object([]any{"metadata"}, document.Object{
			"kind": maybeText, "metadata": object([]any{"key"}, document.Object{"key": text, "project": text, "tree": maybeText, "uid": maybeText, "tag": maybeText}), "spec": open, "status": open}),
		"ArtifactList":  paged("artifacts", "Artifact"),
		"TagList":       object([]any{"project", "tags"}, document.Object{"project": text, "tags": array(text)}),
		"TagAnswer":     object([]any{"project", "name"}, document.Object{"project": text, "name": text}),
		"Secrets":       object([]any{"secrets"}, document.Object{"provider": text, "secrets": document.Object{"type": "object", "additionalProperties": text}}),
		"TagRequest":    object([]any{"kind", "identifiers"}, document.Object{"kind": text, "identifiers": array(open)}),
		"LogSize":       object([]any{"size"}, document.Object{"size": integer}),
		"SubmitRequest": object([]any{"task"}, document.Object{"task": open, "function": document.Object{"type": []any{"object", "null"}}, "functionUrl": maybeText}),
		"BuildRequest":  object([]any{"function"}, document.Object{"function": ref("Function")}),
		"BuildAnswer":   object([]any{"data", "ready"}, document.Object{"data": ref("Function"), "ready": document.Object{"type": "boolean"}}),
		"DeployRequest": object([]any{"function"}, document.Object{"function": ref("Function"), "millrace": object(nil, document.Object{"canary": integer, "shadow": document.Object{"type": "boolean"}})}),
		"DeployAnswer":  object([]any{"data"}, document.Object{"data": ref("Function")}),
		"BackgroundTask": object([]any{"kind", "metadata", "spec", "status"}, document.Object{
			"kind": document.Object{"const": "BackgroundTask"}, "metadata": object([]any{"name"}, document.Object{"name": text}), "spec": open,
			"status": object([]any{"state"}, document.Object{"state": words("running", "succeeded", "failed"), "error": maybeText})}),
		"BackgroundTaskList": object([]any{"background_tasks"}, document.Object{"background_tasks": array(ref("BackgroundTask"))}),
		"Resources":          document.Object{"anyOf": []any{document.Object{"type": "array"}, open}},
	}
	maps.Copy(out, summarySchemas())
	return out
}

// summarySchemas describes the counts of a project.
func summarySchemas() document.Object {
	properties := document.Object{"name": document.Object{"type": "string"}}
	required := []any{"name"}
	for _, key := range []string{"files_count", "models_count", "runs_completed_recent_count", "runs_failed_recent_count", "runs_running_count"} {
		properties[key] = document.Object{"type": "integer"}
		required = append(required, key)
	}
	return document.Object{
		"ProjectSummary": document.Object{"type": "object", "required": required, "properties": properties},
		"ProjectSummaryList": document.Object{"type": "object", "required": []any{"project_summaries"}, "properties": document.Object{
			"project_summaries": document.Object{"type": "array", "items": ref("ProjectSummary")}}},
	}
}
