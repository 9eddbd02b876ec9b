"""What handlers use of mlrun, where the package itself is not installed.

This is the module `mlrun` of a function whose environment does not have the
package: the run's context, data items, artifacts, the handler decorator, the
logger, errors. Everything else of mlrun fails with a sentence that says how to
get it. millrace._facade finds it, after every other finder was asked.
"""

from __future__ import annotations

from typing import Any

from millrace import _facade

__version__ = "1.12.1+millrace"  # the release whose behaviour this follows; code compares it
__millrace__ = True

_HOMES = {
    "MLClientCtx": "execution",
    "DataItem": "datastore",
    "store_manager": "datastore",
    "get_dataitem": "run",
    "get_object": "run",
    "get_or_create_ctx": "run",
    "get_secret_or_env": "secrets",
    "MlrunProject": "projects",
    "get_current_project": "projects",
    "handler": "package",
    "ArtifactType": "package",
    "DefaultPackager": "package",
    "LogHint": "package",
    "Packager": "package",
    "Feature": "features",
    "mlconf": "config",
    "MLRunInvalidArgumentError": "errors",
    "MLRunNotFoundError": "errors",
}
__all__ = ["__version__", *_HOMES]
# What steers runs and functions from outside, which is not here: modules that mention it can be imported.
_NAMES = (
    "HyperParamOptions", "NewTask", "RunObject", "RunStatus", "RunTemplate", "ToDBFunction", "auto_mount",
    "build_function", "code_to_function", "deploy_function", "function_to_module", "get_or_create_project",
    "get_pipeline", "get_run_db", "import_function", "load_project", "mount_pvc", "mount_v3io", "new_function",
    "new_project", "new_task", "run_function", "run_local", "set_env_from_file", "set_environment",
    "wait_for_pipeline_completion",
)  # fmt: skip


def get_version() -> str:
    """Return __version__."""
    return __version__


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(_facade.load(__name__ + "." + _HOMES[name]), name)
    return _facade.absent(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_facade.top()} - {"_HOMES", "_NAMES"})
