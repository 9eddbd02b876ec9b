"""What goes into a model and comes out of it."""

from __future__ import annotations

from typing import Any

from millrace import _facade
from millrace._models import Feature

__all__ = ["Feature"]
_NAMES = ("Entity", "MinMaxLenValidator", "MinMaxValidator", "RegexValidator", "Validator")


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
