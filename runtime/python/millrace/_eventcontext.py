"""The context of a real-time handler, as users of Nuclio know it."""

from __future__ import annotations

from time import time

from millrace import _log, _response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from millrace._event import Event, TriggerInfo

_RANK = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}


class Logger(_log.Logger):
    """Writes to the function's log, and returns the records of an event to its caller when that asks for them."""

    def __init__(self, level: str = "debug", bound: dict[str, Any] | None = None) -> None:
        super().__init__(level)
        self._bound = bound or {}
        self._captured: tuple[list[dict[str, Any]], int] | None = None
        self._each: Any = None  # instead, where several events are in progress at once: a variable of each
        self._root = self

    def debug_with(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level debug; fields stand after the message."""
        self._write("debug", message, args, fields)

    def info_with(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level info; fields stand after the message."""
        self._write("info", message, args, fields)

    def warn_with(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level warn; fields stand after the message."""
        self._write("warn", message, args, fields)

    warning_with = warn_with

    def error_with(self, message: object, *args: object, **fields: Any) -> None:
        """Write at level error; fields stand after the message."""
        self._write("error", message, args, fields)

    def bind(self, **fields: Any) -> Logger:
        """Return a logger whose records have these fields as well."""
        bound = Logger(self.level, dict(self._bound, **fields))
        bound.stream = self.stream
        bound._root = self._root
        return bound

    def separate(self) -> None:
        """Collect the records of each thread and each task for itself from now on."""
        from contextvars import ContextVar

        self._each = ContextVar("records", default=None)

    def capture(self, level: str | None) -> list[dict[str, Any]]:
        """Begin to collect records from level on; release ends it."""
        records: list[dict[str, Any]] = []
        self._capture((records, _RANK.get(str(level or "info").lower(), 20)))
        return records

    def release(self) -> None:
        """End collecting."""
        self._capture(None)

    def _capture(self, captured: tuple[list[dict[str, Any]], int] | None) -> None:
        if self._each is None:
            self._captured = captured
        else:
            self._each.set(captured)

    def _write(self, level: str, message: object, args: tuple[object, ...], fields: dict[str, Any]) -> None:
        if self._bound:
            fields = dict(self._bound, **fields)
        root = self._root
        captured = root._captured if root._each is None else root._each.get()
        if captured is not None and _RANK[level] >= captured[1]:
            text = str(message) % args if args else str(message)
            record: dict[str, Any] = {str(name): value for name, value in fields.items()}
            record.update(level="warn" if level == "warning" else level, time=int(time() * 1000), name="", message=text)
            captured[0].append(record)
        super()._write(level, message, args, fields)


class Platform:
    """Where the function runs, and the way to other functions."""

    def __init__(self) -> None:
        self.kind = "local"
        self.namespace = "default"
        self._on_termination: Callable[[], Any] | None = None
        self._on_drain: Callable[[], Any] | None = None

    def set_termination_callback(self, callback: Callable[[], Any]) -> None:
        """Have callback called once there are no more events; the last one that was set counts."""
        self._on_termination = callback

    def set_drain_callback(self, callback: Callable[[], Any]) -> None:
        """Have callback called when a stream takes its events elsewhere; the last one that was set counts."""
        self._on_drain = callback

    def call_function(
        self,
        function_name: str,
        event: Event,
        node: Any = None,
        timeout: float | None = None,
        service_name_override: str | None = None,
    ) -> _response.Response:
        """Send event to another function of the project and return its response; a JSON body is its value.

        ConnectionError when it cannot be reached, TimeoutError after timeout seconds.
        """
        from millrace import _call

        return _call.call(service_name_override or function_name, event, timeout)

    async def explicit_ack(self, offset: Any) -> None:
        """Acknowledge a message of a stream; there are no streams in this version, so it is an error."""
        raise NotImplementedError("explicit_ack is for triggers of streams, and this function has none")


class _UserData:
    """A namespace for what the handler wants to keep."""


class Context:
    """What a handler keeps between its events, and what serves it."""

    Response = _response.Response

    def __init__(self, trigger: TriggerInfo, worker_id: str, log_level: str = "debug") -> None:
        self.logger = Logger(log_level)
        self.platform = Platform()
        self.user_data = _UserData()
        self.trigger = trigger
        self.trigger_name = trigger.name
        self.worker_id = worker_id

    def __repr__(self) -> str:
        return "Context(worker_id=%r, trigger=%s)" % (self.worker_id, self.trigger_name)
