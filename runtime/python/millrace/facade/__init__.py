"""What handlers use of mlrun, where the package itself is not installed.

This is the module `mlrun` of a function whose environment does not have the
package: the run's context, data items, artifacts, the handler decorator, the
logger, errors. Everything else of mlrun fails with a sentence that says how to
get it. millrace._facade finds it, after every other finder was asked.
"""

from __future__ import annotations

from typing import Any

from millrace import _facade

__version__ = "0+millrace"
__millrace__ = True

_HOMES = {
    "MLClientCtx": "execution",
    "DataItem": "datastore",
    "store_manager": "datastore",
    "get_dataitem": "run",
    "get_object": "run",
    "get_or_create_ctx": "run",
    "get_secret_or_env": "secrets",
    "get_current_project": "projects",
    "handler": "package",
    "ArtifactType": "package",
    "DefaultPackager": "package",
    "LogHint": "package",
    "Packager": "package",
    "mlconf": "config",
    "MLRunInvalidArgumentError": "errors",
    "MLRunNotFoundError": "errors",
}
__all__ = ["__version__", *_HOMES]


def get_version() -> str:
    """Return __version__."""
    return __version__


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(_facade.load(__name__ + "." + _HOMES[name]), name)
    return _facade.submodule(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_facade.top()})
