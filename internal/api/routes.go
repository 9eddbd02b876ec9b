package api

import (
	"slices"

	"github.com/millrace/millrace/internal/artifact"
)

// Groups of parameters that several routes share.
var (
	pageParams = []param{
		integer("page", 1, "page to return, from 1"),
		integer("page-size", 1, "items on a page; without it and without page everything is returned"),
		str("page-token", "token of an earlier answer; returns the page after it and replaces all filters"),
	}
	iterParam   = integer("iter", 0, "iteration; 0 is the run itself")
	labelParam  = strs("label", "KEY or KEY=VALUE, each side with ~ before it for a case-insensitive part; all given have to match")
	nameParam   = str("name", "name, or with ~ before it a case-insensitive part of it")
	formatParam = enum("format", "how much of each document is returned", "full", "minimal", "standard", "notifications")
	runFilters  = []param{
		nameParam, strs("uid", "uids to return"), labelParam, strs("state", "states to return"), strs("states", "the same as state"),
		boolean("sort", "newest start first (default)"), boolean("iter", "include child iterations (default)"),
		integer("last", 0, "return at most this many"),
		moment("start_time_from", "started at or after"), moment("start_time_to", "started at or before"),
		moment("last_update_time_from", "changed at or after"), moment("last_update_time_to", "changed at or before"),
		moment("end_time_from", "ended at or after"), moment("end_time_to", "ended at or before"),
		boolean("with-notifications", "only runs with notifications; not supported"),
		enum("format", "accepted and without effect", "full", "standard"),
	}
	partitionParams = []param{
		enum("partition-by", "return the first of each group, which is a name", "name", "project_and_name"),
		enum("partition-sort-by", "what orders a group; needed with partition-by", "created", "updated"),
		enum("partition-order", "order in a group (default desc)", "desc", "asc"),
		integer("rows-per-partition", 1, "how many of each group (default 1)"),
		integer("max-partitions", 0, "groups to return, those with the newest; 0 means all; of runs only"),
	}
	artifactFilters = []param{
		nameParam, str("tag", "tag; * and nothing select all"), labelParam, strs("kind", "kinds to return"),
		enum("category", "group of kinds to return", artifact.Categories...), iterParam,
		boolean("best-iteration", "only what is marked as best"), str("tree", "producer id"),
		str("producer_uri", "part of the producer's URI"), integer("limit", 0, "return at most this many; 0 means all"),
		moment("since", "changed at or after"), moment("until", "changed at or before"), formatParam,
		str("parent", "address or KEY:TAG of an artifact; only those that name it as their parent"),
	}
	artifactKey = []param{
		str("tag", "tag"), str("tree", "producer id"), str("object-uid", "uid of the artifact"), iterParam,
	}
	projectFilters = []param{str("owner", "owner"), str("state", "state"), labelParam}
	resourceParams = []param{
		str("label-selector", "comma-separated KEY or KEY=VALUE"), enum("kind", "kind of function", resourceKinds...), str("object-id", "uid of a run"),
	}
	taskParams = []param{
		str("state", "state"), str("kind", "kind"), moment("created_from", "created at or after"), moment("created_to", "created at or before"),
		moment("last_update_time_from", "changed at or after"), moment("last_update_time_to", "changed at or before"), str("name", "name"),
	}
)

// routes is the API: what is served, and how it is described.
func routes() []*route {
	var all []*route
	for _, area := range []struct {
		name   string
		routes []*route
	}{
		{"system", systemRoutes()},
		{"projects", projectRoutes()},
		{"functions", functionRoutes()},
		{"deployments", deploymentRoutes()},
		{"runs", slices.Concat(runRoutes(), searchRoutes(), provenanceRoutes())},
		{"logs", logRoutes()},
		{"artifacts", artifactRoutes()},
		{"content", contentRoutes()},
		{"code", bundleRoutes()},
		{"environments", environmentRoutes()},
		{"secrets", secretRoutes()},
		{"background tasks", taskRoutes()},
		{"lineage", lineageRoutes()},
		{"not served here", otherRoutes()},
	} {
		for _, rt := range area.routes {
			rt.area = area.name
			all = append(all, rt)
		}
	}
	return all
}

func systemRoutes() []*route {
	return []*route{
		v1("healthz", "GET", "/healthz", "Whether the server answers", healthz, in("v1", "v2"), public, answers(200, "Health")),
		v1("clientSpec", "GET", "/client-spec", "Configuration that clients take over", clientSpec, public, answers(200, "ClientSpec")),
		v1("clusterizationSpec", "GET", "/clusterization-spec", "Role of this server among several", clusterizationSpec, public, answers(200, "Object")),
		v1("frontendSpec", "GET", "/frontend-spec", "Configuration of user interfaces", frontendSpec, answers(200, "Object")),
		v1("openAPI", "GET", "/openapi.json", "This document", openAPIDocument, public, answers(200, "Object")),
		v1("migrations", "POST", "/operations/migrations", "Start pending migrations; there never are any", migrations, silent(200)),
		v1("authorize", "POST", "/authorization/verifications", "Whether the caller may do something", authorize, body("Object"), answers(200, "Null")),
	}
}

func projectRoutes() []*route {
	strategy := header("x-mlrun-deletion-strategy", "restrict (default), cascade, or check to delete nothing")
	return []*route{
		v1("createProject", "POST", "/projects", "Create a project", projectCreate,
			takes(boolean("wait-for-completion", "accepted and without effect")), body("Project"), answers(201, "Project")),
		v1("listProjects", "GET", "/projects", "List projects", projectList, with(projectFilters),
			takes(enum("format", "what is returned of each (default full)", "full", "name_only", "minimal", "leader")), answers(200, "ProjectList")),
		v1("getProject", "GET", "/projects/{project}", "Read a project", projectGet, answers(200, "Project")),
		v1("putProject", "PUT", "/projects/{project}", "Create or replace a project", projectPut, body("Project"), answers(200, "Project")),
		v1("patchProject", "PATCH", "/projects/{project}", "Merge into a project", projectPatch,
			takes(header("x-mlrun-patch-mode", "replace (default), or additive to concatenate lists")), body("Object"), answers(200, "Project")),
		v1("deleteProject", "DELETE", "/projects/{project}", "Delete a project", projectDelete, in("v1", "v2"),
			takes(strategy), answers(202, "BackgroundTask"), silent(204)),
		v1("listProjectSummaries", "GET", "/project-summaries", "Counts of all projects", projectSummaries, with(projectFilters), answers(200, "ProjectSummaryList")),
		v1("getProjectSummary", "GET", "/project-summaries/{project}", "Counts of a project", projectSummary, answers(200, "ProjectSummary")),
	}
}

func functionRoutes() []*route {
	const named = "/projects/{project}/functions/{name}"
	tag := str("tag", "tag (default latest)")
	buildParams := []param{
		str("name", "function; required"), str("project", "project (default: default)"), tag, boolean("logs", "send the log (default)"),
		integer("offset", 0, "bytes of the log to skip"), str("last_log_timestamp", "of a deployment: send what was said after this time, in milliseconds"),
	}
	out := []*route{
		v1("storeFunction", "POST", named, "Store a function", functionPut,
			takes(tag, boolean("versioned", "store an immutable version instead of filling the tag's slot")), body("Function"), answers(200, "StoredFunction")),
		v1("getFunction", "GET", named, "Read a function", functionGet, takes(tag, str("hash_key", "hash of a version, used without tag"), formatParam), answers(200, "FunctionAnswer")),
		v1("listFunctions", "GET", "/projects/{project}/functions", "List functions", functionList,
			takes(nameParam, str("tag", "tag; * selects everything tagged"), labelParam, str("hash_key", "hash of a version"), str("kind", "kind"),
				strs("state", "states"), moment("since", "changed at or after"), moment("until", "changed at or before"), formatParam),
			with(pageParams), answers(200, "FunctionList")),
		v1("deleteFunction", "DELETE", named, "Delete a function with all versions", functionDelete, in("v1", "v2"), silent(204)),
		v1("buildFunction", "POST", "/build/function", "Make a function ready to run", buildFunction, body("BuildRequest"), answers(200, "BuildAnswer")),
		v1("buildStatus", "GET", "/build/status", "State and log of a function's build", buildStatus, with(buildParams),
			bytesAnswer(200, "text/plain", "x-mlrun-function-status", "function_status", "x-mlrun-last-timestamp", "function_image", "builder_pod", "deploy_status_text_kind")),
	}
	for id, path := range map[string]string{"submitJob": "/submit_job", "submit": "/submit"} {
		out = append(out, v1(id, "POST", path, "Run a function", submitJob, body("SubmitRequest"), answers(200, "RunAnswer"),
			takes(header("x-mlrun-client-version", "version of the caller, kept as a label"), header("x-mlrun-client-python-version", "its Python"), header("x-remote-user", "who asks"))))
	}
	return out
}

func runRoutes() []*route {
	const named, all = "/projects/{project}/runs/{uid}", "/projects/{project}/runs"
	format := enum("format", "full (default) adds the artifacts, notifications their state", "full", "standard", "notifications")
	deleteParams := []param{
		nameParam, labelParam, strs("state", "states"), integer("days_ago", 0, "only runs started in the last days; 0 means all"), strs("project", "used where the path has none"),
	}
	out := []*route{
		v1("listRuns", "GET", all, "List runs", runList, with(runFilters, partitionParams, pageParams), takes(str("project", "used where the path has none")), answers(200, "RunList")),
		v1("listCompletedRuns", "GET", "/projects/{project}/completed_runs", "List completed runs", runListCompleted, with(runFilters, partitionParams, pageParams),
			takes(str("project", "used where the path has none")), answers(200, "RunList")),
		v1("deleteRuns", "DELETE", all, "Delete the runs that match", runDeleteMany, with(deleteParams), answers(200, "Empty")),
		v1("abortRun", "POST", named+"/abort", "Ask for the end of a run", runAbort, takes(iterParam), body("Updates"), answers(202, "BackgroundTask")),
		v1("setRunNotifications", "PUT", named+"/notifications", "Replace the notifications of a run", notificationsPut, body("Object"), silent(200)),
		v1("listAllRuns", "GET", "/runs", "List runs, the project as a parameter", runList, with(runFilters, partitionParams, pageParams), takes(str("project", "project (default: default)")), answers(200, "RunList")),
		v1("deleteAllRuns", "DELETE", "/runs", "Delete runs, the project as a parameter", runDeleteMany, with(deleteParams), answers(200, "Empty")),
	}
	for _, at := range []struct{ path, suffix string }{{named, ""}, {"/run/{project}/{uid}", "Legacy"}} {
		out = append(out,
			v1("storeRun"+at.suffix, "POST", at.path, "Store a run's whole document", runPut, takes(iterParam), body("Run"), answers(200, "Empty")),
			v1("updateRun"+at.suffix, "PATCH", at.path, "Change fields of a run by dotted paths", runUpdate, takes(iterParam), body("Updates"), answers(200, "Empty")),
			v1("getRun"+at.suffix, "GET", at.path, "Read a run", runGet, takes(iterParam, format), answers(200, "RunAnswer")),
			v1("deleteRun"+at.suffix, "DELETE", at.path, "Delete a run with all iterations", runDelete, takes(iterParam), answers(200, "Empty")))
	}
	return out
}

func logRoutes() []*route {
	const named = "/projects/{project}/logs/{uid}"
	offset := integer("offset", 0, "byte to begin at")
	out := []*route{
		v1("logSize", "GET", named+"/size", "Bytes of a run's log", logSize, answers(200, "LogSize")),
		v1("followLog", "GET", "/millrace"+named, "A run's log as a stream", logFollow,
			takes(offset, boolean("follow", "go on until the run ends")), bytesAnswer(200, "text/plain", "x-mlrun-run-state")),
	}
	for _, at := range []struct{ path, suffix string }{{named, ""}, {"/log/{project}/{uid}", "Legacy"}} {
		out = append(out,
			v1("getLog"+at.suffix, "GET", at.path, "Part of a run's log", logGet,
				takes(offset, integer("size", -1, "bytes at most; -1 means to the end"), integer("attempt", 0, "attempt, from 1; 0 means all")),
				bytesAnswer(200, "text/plain", "x-mlrun-run-state")),
			v1("storeLog"+at.suffix, "POST", at.path, "Add to a run's log", logAppend,
				takes(boolean("append", "add (default) instead of replacing")), rawBody("application/octet-stream"), answers(200, "Empty")))
	}
	return out
}

func artifactRoutes() []*route {
	const all, named = "/projects/{project}/artifacts", "/projects/{project}/artifacts/{key...}"
	strategy := enum("deletion_strategy", "what happens to the content: it stays (default), goes if this server can delete it, or the deletion fails", "metadata-only", "data-optional", "data-force")
	deleteMany := []param{nameParam, str("tag", "tag"), str("tree", "producer id"), labelParam, integer("limit", 0, "delete at most this many; 0 means all")}
	return []*route{
		v1("storeArtifact", "PUT", named, "Store an artifact", artifactPut, in("v2"), with(artifactKey), body("Artifact"), answers(200, "Artifact")),
		v1("createArtifact", "POST", all, "Create an artifact", artifactCreate, in("v2"), body("Artifact"), answers(201, "Artifact")),
		v1("getArtifact", "GET", named, "Read an artifact", artifactGet, in("v2"), with(artifactKey), takes(str("uid", "the same as object-uid"), formatParam), answers(200, "Artifact")),
		v1("listArtifacts", "GET", all, "List artifacts", artifactList, in("v2"), with(artifactFilters, partitionParams, pageParams), answers(200, "ArtifactList")),
		v1("deleteArtifact", "DELETE", named, "Delete an artifact", artifactDelete, in("v2"), with(artifactKey), takes(strategy, str("key", "accepted and without effect")), silent(204)),
		v1("deleteArtifacts", "DELETE", all, "Delete the artifacts that match", artifactDeleteMany, in("v2"),
			takes(deleteMany...), silent(204)),
		v1("storeArtifactLegacy", "POST", "/projects/{project}/artifacts/{uid}/{key}", "Store an artifact of a producer", artifactPutLegacy,
			takes(str("tag", "tag"), iterParam), body("Object"), answers(200, "Empty")),
		v1("getArtifactLegacy", "GET", named, "Read an artifact; the tag may be a producer id", artifactGetLegacy,
			takes(str("tag", "tag (default latest)"), iterParam, formatParam), answers(200, "Object")),
		v1("listArtifactsLegacy", "GET", all, "List artifacts; the tag may be a producer id", artifactList, with(artifactFilters, partitionParams, pageParams), answers(200, "ArtifactList")),
		v1("deleteArtifactLegacy", "DELETE", named, "Delete what a producer, which the path names, stored under the key of the query", artifactDeleteLegacy,
			takes(str("key", "key of the artifact; required"), str("tag", "tag")), answers(200, "Empty")),
		v1("deleteArtifactsLegacy", "DELETE", all, "Delete the artifacts that match", artifactDeleteManyLegacy, takes(deleteMany...), answers(200, "Empty")),
		v1("listArtifactTags", "GET", "/projects/{project}/artifact-tags", "Tags in use", artifactTags,
			takes(enum("category", "group of kinds", artifact.Categories...)), answers(200, "TagList")),
		v1("appendTag", "PUT", "/projects/{project}/tags/{tag}", "Give artifacts a tag", tagAppend, body("TagRequest"), answers(200, "TagAnswer")),
		v1("replaceTags", "POST", "/projects/{project}/tags/{tag}", "Give artifacts a tag instead of all others", tagReplace, body("TagRequest"), answers(200, "TagAnswer")),
		v1("deleteTag", "DELETE", "/projects/{project}/tags/{tag}", "Take a tag from artifacts", tagDelete, body("TagRequest"), silent(204)),
	}
}

func secretRoutes() []*route {
	const all = "/projects/{project}/secrets"
	provider := str("provider", "secret store; kubernetes, the default, stands for that of this server")
	token := header("x-mlrun-secret-store-token", "refused for provider kubernetes")
	return []*route{
		v1("listSecretKeys", "GET", "/projects/{project}/secret-keys", "Names of a project's secrets", secretKeys, takes(provider, token), answers(200, "Object")),
		v1("getSecrets", "GET", all, "Refused: values are never handed out", secretValues, takes(provider)),
		v1("createSecrets", "POST", all, "Store secrets next to those that there are", secretPut, body("Secrets"), silent(201)),
		v1("deleteSecrets", "DELETE", all, "Delete the secrets named, all without a name", secretDelete, takes(provider, strs("secret", "name of a secret")), silent(204)),
		v1("createUserSecrets", "POST", "/user-secrets", "Refused: there are secrets of projects only", userSecrets, body("Object")),
		v1("rotateSecrets", "POST", "/millrace/secrets/rotate", "Encrypt all secrets with a new key", secretRotate, answers(200, "Object")),
	}
}

func taskRoutes() []*route {
	return []*route{
		v1("getProjectTask", "GET", "/projects/{project}/background-tasks/{name}", "Read a background task of a project", taskGet, answers(200, "BackgroundTask")),
		v1("listProjectTasks", "GET", "/projects/{project}/background-tasks", "List background tasks of a project", taskList, with(taskParams), answers(200, "BackgroundTaskList")),
		v1("getTask", "GET", "/background-tasks/{name}", "Read a global background task", taskGet, answers(200, "BackgroundTask")),
		v1("listTasks", "GET", "/background-tasks", "List global background tasks", taskList, with(taskParams), answers(200, "BackgroundTaskList")),
		v1("listRuntimeResources", "GET", "/projects/{project}/runtime-resources", "What runs on the server", runtimeResources,
			with(resourceParams), takes(enum("group-by", "how the answer is nested", "job", "project")), answers(200, "Resources")),
		v1("deleteRuntimeResources", "DELETE", "/projects/{project}/runtime-resources", "End what runs on the server", deleteRuntimeResources,
			with(resourceParams), takes(boolean("force", "also what is alive"), integer("grace-period", 0, "accepted and without effect")), answers(200, "Object")),
	}
}
