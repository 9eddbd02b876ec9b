package api

import "github.com/millrace/millrace/internal/document"

// otherRoutes is what clients may ask of a server of this API and this one does
// not have: lists are empty, reading one is 404, and asking for one is refused.
func otherRoutes() []*route {
	noSchedules := refuses("schedules are not supported by this server; submit the run without one")
	noHub := refuses("hub sources cannot be added to this server; import functions by file or URL with the client")
	noWorkflows := refuses(`workflow engines are not supported by this server; run the workflow with project.run(engine="local")`)
	noProfiles := refuses("datastore profiles are not stored by this server; register them with the client only")
	noPush := refuses("this server sends no notifications; local runs send theirs from the client")
	const schedules, schedule = "/projects/{project}/schedules", "/projects/{project}/schedules/{name}"
	const profile = "/projects/{project}/datastore-profiles/{name}"
	return []*route{
		v1("listSchedules", "GET", schedules, "List schedules; there are none", always(document.Object{"schedules": []any{}}), answers(200, "Object")),
		v1("createSchedule", "POST", schedules, "Refused", noSchedules),
		v1("getSchedule", "GET", schedule, "Not found", missing("schedule")),
		v1("putSchedule", "PUT", schedule, "Refused", noSchedules),
		v1("invokeSchedule", "POST", schedule+"/invoke", "Not found", missing("schedule")),
		v1("setScheduleNotifications", "PUT", schedule+"/notifications", "Not found", missing("schedule")),
		v1("deleteSchedule", "DELETE", schedule, "Delete a schedule; there is none", nothing, silent(204)),
		v1("deleteSchedules", "DELETE", schedules, "Delete schedules; there are none", nothing, silent(204)),

		v1("listHubSources", "GET", "/hub/sources", "List hub sources; there are none", always([]any{}), answers(200, "List")),
		v1("getHubSource", "GET", "/hub/sources/{name}", "Not found", missing("hub source")),
		v1("createHubSource", "POST", "/hub/sources", "Refused", noHub),
		v1("putHubSource", "PUT", "/hub/sources/{name}", "Refused", noHub),
		v1("deleteHubSource", "DELETE", "/hub/sources/{name}", "Delete a hub source; there is none", nothing, silent(204)),

		v1("startFunction", "POST", "/start/function", "Refused", refuses("functions of kind dask cannot be started by this server; run them as jobs")),
		v1("statusFunction", "POST", "/status/function", "Refused", refuses("functions of kind dask cannot be started by this server; run them as jobs")),

		v1("listPipelines", "GET", "/projects/{project}/pipelines", "List pipelines; there are none",
			always(document.Object{"runs": []any{}, "total_size": 0, "next_page_token": nil}), answers(200, "Object")),
		v1("createPipeline", "POST", "/projects/{project}/pipelines", "Refused", noWorkflows),
		v1("getPipeline", "GET", "/projects/{project}/pipelines/{name}", "Not found", missing("pipeline")),
		v1("submitWorkflow", "POST", "/projects/{project}/workflows/{name}/submit", "Refused", noWorkflows),
		v1("loadProject", "POST", "/projects/{project}/load", "Refused",
			refuses("this server does not load projects; load it with mlrun.load_project and save it")),

		v1("listDatastoreProfiles", "GET", "/projects/{project}/datastore-profiles", "List datastore profiles; there are none", always([]any{}), answers(200, "List")),
		v1("getDatastoreProfile", "GET", profile, "Not found", missing("datastore profile")),
		v1("putDatastoreProfile", "PUT", "/projects/{project}/datastore-profiles", "Refused", noProfiles),
		v1("deleteDatastoreProfile", "DELETE", profile, "Delete a datastore profile; there is none", nothing, silent(204)),

		v1("listAlertTemplates", "GET", "/alert-templates", "List alert templates; there are none", always([]any{}), answers(200, "List")),
		v1("pushRunNotifications", "POST", "/projects/{project}/runs/{uid}/push-notifications", "Refused", noPush),
	}
}
