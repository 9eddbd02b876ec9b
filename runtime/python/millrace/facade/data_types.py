"""Names of the types of data, which are not here: modules that mention them can be imported."""

from __future__ import annotations

from typing import Any

from millrace import _facade

_NAMES = ("InferOptions", "ValueType", "get_df_stats", "get_df_preview", "infer_schema_from_df")


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
