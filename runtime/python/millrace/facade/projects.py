"""The run's project, as far as a run knows it."""

from __future__ import annotations

from typing import Any

import millrace
from millrace import _facade

__all__ = ["MlrunProject", "get_current_project"]
_NAMES = (
    "ProjectMetadata", "ProjectSpec", "ProjectStatus", "build_function", "deploy_function", "get_or_create_project",
    "load_project", "new_project", "pipeline_context", "run_function",
)  # fmt: skip


class _Metadata:
    def __init__(self, name: str) -> None:
        self.name = name


class MlrunProject:
    """The name and the artifact path of the run's project; more, and any other project, needs the package."""

    def __init__(self, *given: Any, **options: Any) -> None:
        if given or options:
            raise NotImplementedError(_facade.sentence("mlrun.projects.MlrunProject of another project"))
        context = millrace.get_context()
        self.name = context.project
        self.metadata = _Metadata(context.project)
        self.artifact_path = context.artifact_path

    def get_param(self, key: str, default: Any = None) -> Any:
        """Return default: a run does not know its project's parameters."""
        return millrace.get_context().get_project_param(key, default)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(_facade.sentence("MlrunProject.%s" % name))


def get_current_project(silent: bool = False) -> MlrunProject:
    """Return what is known of the run's project."""
    return MlrunProject()


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
