"""The logger, and a few helpers that code imports from here."""

from __future__ import annotations

import datetime
from typing import Any

from millrace import _context
from millrace._log import Logger

__all__ = ["Logger", "create_logger", "get_in", "logger", "now_date", "update_in"]


class _RunLogger:
    """The logger of whatever run the process executes just now."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_context.current("").logger, name)


logger: Any = _RunLogger()


def create_logger(
    level: str | None = None, formatter_kind: str = "human", name: str = "mlrun", stream: Any = None
) -> Logger:
    """Return a logger of its own; there is one format."""
    made = Logger(level or "info")
    made.stream = stream
    return made


def now_date(tz: datetime.tzinfo = datetime.timezone.utc) -> datetime.datetime:
    """Return the time with its zone."""
    return datetime.datetime.now(tz=tz)


def get_in(obj: Any, keys: str | list[str], default: Any = None) -> Any:
    """Return what lies in nested dicts at a dotted path."""
    for key in keys.split(".") if isinstance(keys, str) else keys:
        if not obj or key not in obj:
            return default
        obj = obj[key]
    return obj


def update_in(obj: dict[str, Any], key: str | list[str], value: Any) -> None:
    """Set what lies in nested dicts at a dotted path."""
    *folders, last = key.split(".") if isinstance(key, str) else key
    for folder in folders:
        obj = obj.setdefault(folder, {})
    obj[last] = value
