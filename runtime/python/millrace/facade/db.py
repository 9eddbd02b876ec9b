"""Names of the client of the API, which is not here: modules that mention them can be imported."""

from __future__ import annotations

from typing import Any

from millrace import _facade

_NAMES = ("RunDBError", "RunDBInterface", "get_or_set_dburl", "get_run_db")


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
