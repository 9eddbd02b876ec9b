"""Settings that code reads: what the run's environment says, and nothing else."""

from __future__ import annotations

import os
from typing import Any

from millrace import _context, _facade

__all__ = ["config", "mlconf"]


class Config:
    """The settings a run knows; any other is an AttributeError that says what to do."""

    @property
    def dbpath(self) -> str:
        """The URL of the API, or ""."""
        return os.environ.get("MLRUN_DBPATH", "")

    @property
    def artifact_path(self) -> str:
        """Where the run's artifacts go."""
        return _context.current("").artifact_path

    @property
    def default_project(self) -> str:
        """The run's project."""
        return _context.current("").project

    active_project = default_project

    @property
    def namespace(self) -> str:
        """The Kubernetes namespace, or ""."""
        return os.environ.get("MLRUN_NAMESPACE", "")

    @property
    def log_level(self) -> str:
        """The lowest level that is logged."""
        return _context.current("").log_level

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(_facade.sentence("the setting mlconf.%s" % name))


config = mlconf = Config()


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
