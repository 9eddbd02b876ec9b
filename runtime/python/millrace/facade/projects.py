"""The run's project, as far as a run knows it."""

from __future__ import annotations

from typing import Any

import millrace
from millrace import _facade

__all__ = ["get_current_project"]


class _Metadata:
    def __init__(self, name: str) -> None:
        self.name = name


class _Project:
    """The name and the artifact path of the run's project; more needs the package."""

    def __init__(self) -> None:
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


def get_current_project(silent: bool = False) -> _Project:
    """Return what is known of the run's project."""
    return _Project()
