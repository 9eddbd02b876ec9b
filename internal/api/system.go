package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
)

func healthz(c *call) error {
	return c.json(200, document.Object{"version": c.s.opts.Version, "status": "ok"})
}

// address is where the processes that this server starts reach it.
func (c *call) address() string {
	if c.s.opts.URL != "" {
		return strings.TrimRight(c.s.opts.URL, "/")
	}
	scheme := "http://"
	if c.r.TLS != nil {
		scheme = "https://"
	}
	return scheme + c.r.Host
}

// nuclioVersion is the release of Nuclio whose behaviour clients may count on: it
// is how they find out that functions can be deployed.
const nuclioVersion = "1.14.0"

// clientSpec is the configuration that clients take over from the server. Null
// leaves the client's own default; see the package comment for namespace, kfp_url
// and nuclio_version.
func clientSpec(c *call) error {
	workflows := ""
	if c.clientBefore(1, 10) {
		workflows = c.address() + "/api/v1/pipelines"
	}
	nuclio := ""
	if c.s.opts.Deployments != nil {
		nuclio = nuclioVersion
	}
	spec := document.Object{
		"version": c.version(), "namespace": c.s.opts.Namespace, "artifact_path": c.s.opts.ArtifactPath,
		"api_url": c.address(), "ui_url": "", "kfp_url": workflows, "nuclio_version": nuclio, "remote_host": "",
		"docker_registry": "", "mpijob_crd_version": "v1", "spark_operator_version": "spark-3",
		"ce": document.Object{"mode": "", "release": ""}, "calculate_artifact_hash": "True",
		"generate_artifact_target_path_from_artifact_hash": true,
		"redis_url": "", "redis_type": "standalone", "sql_url": "",
		"spark_app_image": "", "spark_app_image_tag": "", "spark_history_server_path": "",
	}
	for _, key := range []string{
		"kfp_image", "dask_kfp_image", "ui_projects_prefix", "scrape_metrics", "default_function_node_selector", "igz_version",
		"auto_mount_type", "auto_mount_params", "default_function_priority_class_name", "valid_function_priority_class_names",
		"default_tensorboard_logs_path", "default_function_pod_resources", "preemptible_nodes_node_selector",
		"preemptible_nodes_tolerations", "default_preemption_mode", "force_run_local", "function", "logs", "packagers",
		"external_platform_tracking", "alerts_mode",
		"feature_store_data_prefixes", "feature_store_default_targets",
		"model_endpoint_monitoring_endpoint_store_connection", "model_monitoring_tsdb_connection",
	} {
		spec[key] = nil
	}
	return c.json(200, spec)
}

// version is the MLRun version to tell a client. Clients warn when it is far from
// their own; between the oldest and the newest that this API was tested with, it
// is the client's.
func (c *call) version() string {
	if c.s.opts.Version != DefaultVersion {
		return c.s.opts.Version
	}
	parts := strings.SplitN(c.r.Header.Get("X-Mlrun-Client-Version"), ".", 3)
	if len(parts) != 3 || parts[0] != "1" {
		return DefaultVersion
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return DefaultVersion
	}
	return fmt.Sprintf("1.%d.0", min(max(minor, oldestMinor), newestMinor))
}

// The minor versions of MLRun 1 that this API was tested with.
const (
	oldestMinor = 7
	newestMinor = 12
)

// clusterizationSpec says that this server is the only one of its kind.
func clusterizationSpec(c *call) error {
	return c.json(200, document.Object{"chief_api_state": "online", "chief_version": c.s.opts.Version})
}

// frontendSpec is the configuration of web user interfaces.
func frontendSpec(c *call) error {
	authentication := "none"
	if c.s.opts.Token != "" {
		authentication = "bearer"
	}
	images := document.Object{}
	abortable := []any{}
	for _, kind := range function.Kinds() {
		if image := kind.DefaultImage(); image != "" {
			images[string(kind)] = image
		}
		if kind.Abortable() {
			abortable = append(abortable, string(kind))
		}
	}
	return c.json(200, document.Object{
		"jobs_dashboard_url": nil, "model_monitoring_dashboard_url": nil, "abortable_function_kinds": abortable,
		"feature_flags": document.Object{
			"project_membership": "disabled", "authentication": authentication, "nuclio_streams": "disabled", "preemption_nodes": "disabled",
		},
		"default_function_priority_class_name": "", "valid_function_priority_class_names": []any{},
		"default_function_image_by_kind":                                images,
		"function_deployment_target_image_template":                     "func-{project}-{name}:{tag}",
		"function_deployment_target_image_name_prefix_template":         "func-{project}-{name}",
		"function_deployment_target_image_registries_to_enforce_prefix": []any{},
		"function_deployment_mlrun_requirement":                         "",
		"auto_mount_type":                                               "", "auto_mount_params": document.Object{},
		"default_artifact_path":               c.s.opts.ArtifactPath,
		"default_function_pod_resources":      document.Object{"requests": document.Object{}, "limits": document.Object{}},
		"default_function_preemption_mode":    "prevent",
		"feature_store_data_prefixes":         document.Object{},
		"allowed_artifact_path_prefixes_list": []any{},
		"ce":                                  document.Object{"mode": "", "release": ""},
		"internal_labels":                     []any{"kind", "owner", "v3io_user", "workflow", "mlrun/client_version", "mlrun/client_python_version"},
		"artifact_limits":                     document.Object{"max_chunk_size": 1 << 20, "max_preview_size": 10 << 20, "max_download_size": 100 << 20},
	})
}

// migrations are applied when the store is opened, so there is never one left.
func migrations(c *call) error {
	c.discard()
	return c.silent(200)
}

// openAPIDocument serves the description of this API.
func openAPIDocument(c *call) error {
	writeJSON(c.w, http.StatusOK, c.s.document())
	return nil
}
