"""The structured logger of a context."""

from __future__ import annotations

import sys
from time import localtime, strftime, time

from millrace import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}


class Logger:
    """Writes lines such as `> 2024-10-23 08:15:52,123 [info] message {"key": 1}`.

    Without a stream of its own it writes to whatever sys.stdout is.
    """

    def __init__(self, level: str = "info") -> None:
        self.level = "info"
        self.stream: Any = None
        self.set_logger_level(level)

    def set_logger_level(self, level: str) -> None:
        """Set the lowest level that is written."""
        name = str(level).lower()
        if name not in _LEVELS:
            raise ValueError("the log level %r is none of %s" % (level, ", ".join(_LEVELS)))
        self.level = name

    def debug(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level debug; fields stand after the message as JSON."""
        self._write("debug", message, args, fields)

    def info(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level info; fields stand after the message as JSON."""
        self._write("info", message, args, fields)

    def warning(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level warning; fields stand after the message as JSON."""
        self._write("warning", message, args, fields)

    warn = warning

    def error(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level error; fields stand after the message as JSON."""
        self._write("error", message, args, fields)

    def exception(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level error, with the traceback of the exception being handled."""
        self._write("error", message, args, fields)
        if sys.exc_info()[0] is not None:
            from traceback import format_exc

            print(format_exc(), end="", file=self.stream or sys.stdout)

    def _write(self, level: str, message: object, args: tuple[object, ...], fields: dict[str, Any]) -> None:
        if _LEVELS[level] < _LEVELS[self.level]:
            return
        now = time()
        text = str(message)
        if args:
            text = text % args
        line = "> %s,%03d [%s] %s" % (
            strftime("%Y-%m-%d %H:%M:%S", localtime(now)),
            int(now * 1000) % 1000,
            level,
            text,
        )
        if fields:
            line += ": " + _fields(fields)
        print(line, file=self.stream or sys.stdout)


def _fields(fields: dict[str, Any]) -> str:
    from json import dumps

    try:
        return dumps(fields, default=str, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return _json.dumps({key: str(value) for key, value in fields.items()})
