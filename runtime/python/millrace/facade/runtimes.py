"""What the SDK appends to code of functions of kind nuclio:mlrun, so that its handlers of jobs answer events."""

from __future__ import annotations

from typing import Any

from millrace import _facade, _jobs

_NAMES = (
    "ApplicationRuntime", "BaseRuntime", "DaskCluster", "DatabricksRuntime", "HandlerRuntime", "KubeResource",
    "KubejobRuntime", "LocalRuntime", "MLModelServer", "NuclioStatus", "RemoteRuntime", "RemoteSparkRuntime",
    "RuntimeKinds", "ServingRuntime", "Spark3JobRuntime", "get_runtime_class", "new_model_endpoint",
    "new_v1_model_server", "new_v2_model_server", "serving_subkind",
)  # fmt: skip


class RunError(Exception):
    """A run that has failed, for code that catches it."""


def nuclio_init_hook(context: Any, data: dict[str, Any], kind: str) -> None:
    """Give the context of a deployed function what calls the handlers of jobs among data, a module's names."""
    if kind not in ("mlrun", "jobs"):
        raise NotImplementedError(_facade.sentence("serving (nuclio_init_hook of kind %s)" % kind))
    context.mlrun_handler = _jobs.Jobs(data, "").answer


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
