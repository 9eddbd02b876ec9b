"""Reaching the run and its data from anywhere in its code."""

from __future__ import annotations

from typing import Any

import millrace
from millrace import _facade
from millrace._context import MLClientCtx
from millrace._data import DataItem

__all__ = ["get_dataitem", "get_object", "get_or_create_ctx"]
_NAMES = (
    "code_to_function", "function_to_module", "get_pipeline", "import_function", "load_func_code", "new_function",
    "run_local", "wait_for_pipeline_completion", "wait_for_runs_completion",
)  # fmt: skip


def get_or_create_ctx(
    name: str, event: Any = None, spec: Any = None, with_env: bool = True, rundb: str = "", project: str = "",
    upload_artifacts: bool = False, labels: dict[str, str] | None = None,
) -> MLClientCtx:  # fmt: skip
    """Return the context of the run that this process executes; outside of one, a context of its own.

    Where the context is to be made from an event or a spec, the package itself is needed.
    """
    if event is not None or spec is not None:
        raise NotImplementedError(_facade.sentence("get_or_create_ctx with an event or a spec"))
    context = millrace.get_context(name)
    for key, value in (labels or {}).items():
        context.set_label(key, value)
    return context


def get_dataitem(url: str, secrets: dict[str, str] | None = None, db: str | None = None) -> DataItem:
    """Return the data at url; secrets are credentials by their names, which come before those of the run."""
    if db:
        raise NotImplementedError(_facade.sentence("a data item by another API (db=%s)" % db))
    return DataItem("", url, secrets=secrets)


def get_object(
    url: str, secrets: dict[str, str] | None = None, size: int | None = None, offset: int = 0, db: str | None = None
) -> bytes:
    """Return the content at url."""
    content: bytes = get_dataitem(url, secrets, db).get(size, offset)
    return content


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
