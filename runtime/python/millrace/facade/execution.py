"""The run's context."""

from __future__ import annotations

from typing import Any

from millrace import _facade
from millrace._context import MLClientCtx

__all__ = ["MLClientCtx"]


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
