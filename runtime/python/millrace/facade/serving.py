"""Names of serving, which is not here: modules that mention them can be imported."""

from __future__ import annotations

from typing import Any

from millrace import _facade

_NAMES = (
    "APIHandlerConfig", "BackgroundTaskStatus", "BaseModelRouter", "BaseStep", "BatchHttpRequests",
    "BodyMappings", "CacheEntry", "ChoiceByField", "EnrichmentModelRouter", "EnrichmentVotingEnsemble",
    "ErrorStep", "FlowStep", "GraphContext", "GraphError", "GraphServer", "HubTaskStep", "LLModel",
    "MLModelServer", "Merge", "MockEvent", "MockTrigger", "Model", "ModelRouter", "ModelRunner",
    "ModelRunnerSelector", "ModelRunnerStep", "ModelSelector", "MonitoredStep", "MonitoringApplicationStep",
    "MonitoringApplicationToDict", "OTelMetricsExporter", "OpenAIEndpoint", "OperationTypes", "ParallelRun",
    "ParallelRunnerModes", "QueueStep", "RemoteStep", "Response", "ResultHandler", "RootFlowStep", "RouterStep",
    "RouterToDict", "StepKinds", "StepToDict", "TaskStep", "V2ModelServer", "VotingEnsemble", "VotingTypes",
    "create_graph_server", "format_error", "get_current_function", "graph_root_setter", "new_model_endpoint",
    "new_remote_endpoint", "new_v1_model_server", "nuclio_serving_handler", "nuclio_serving_init",
    "params_to_step", "v2_serving_handler", "v2_serving_init",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
