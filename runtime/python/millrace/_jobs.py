"""Handlers of jobs that are called by events: functions of kind nuclio:mlrun.

The first part of an event's path names the handler, the body is the run; the
response is the run with its state and results, whatever became of it.
"""

from __future__ import annotations

import sys

from millrace import _context, _errors, _event, _json, _load, _response, _values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable

_Function = type(lambda: None)
_RUNTIME = __file__.rpartition("/")[0].rpartition("/")[0] + "/"


def find(head: dict[str, Any]) -> tuple[ModuleType | None, Callable[[Any, Any], Any], str]:
    """Load the code and return its module, the handler of events and a name for it."""
    path, colon, name = (head.get("handler") or "").rpartition(":")
    if colon and not head.get("file"):
        head = dict(head, module=path)
    module = _load.load_module(head)
    jobs = _Jobs(module, name)
    return module, jobs.handle, name or "jobs"


class _Refused(Exception):
    """The event is no run for a handler of this code."""


class _Jobs:
    def __init__(self, module: ModuleType | None, default: str) -> None:
        self._module = module
        self._default = default
        self._known: dict[str, _load.Handler] = {}

    def handle(self, context: Any, event: _event.Event) -> _response.Response:
        """Execute the run that an event carries."""
        name = event.path.strip("/").partition("/")[0] or self._default
        try:
            document = _document(event.body)
            job = self._job(name)
        except _Refused as error:
            return _response.Response(status_code=400, body=str(error) + "\n")
        run = _context.MLClientCtx(document, _refuse)
        run._logger = context.logger
        _context.set_current(run)
        try:
            value = job(run)
            if value is not None:
                run._results["return"] = _values.cast(value)
            run.commit(completed=True)
        except BaseException as error:
            failure = _errors.failure_of(error, _RUNTIME)
            sys.stderr.write(failure.get("traceback") or failure["message"] + "\n")
            run.set_state(error=failure["message"], commit=False)
        finally:
            _context.set_current(None)
        return _response.Response(body=_json.dumps(run.to_dict()), content_type="application/json")

    def _job(self, name: str) -> _load.Handler:
        found = self._known.get(name)
        if found is None:
            function = getattr(self._module, name, None) if name and not name.startswith("_") else None
            if type(function) is not _Function:
                raise _Refused("there is no handler %r; the path names a function of the code" % name)
            found = self._known[name] = _load.Handler(name, function)
        return found


def _document(body: Any) -> dict[str, Any]:
    if isinstance(body, bytes) and body:
        from json import loads

        try:
            body = loads(body.decode())
        except ValueError as error:
            raise _Refused("the body is no run as JSON: %s" % error) from None
    document = {} if body is None or body == b"" else body
    if not isinstance(document, dict):
        raise _Refused("the body is no run: it has to be an object with metadata and spec")
    for part in ("metadata", "spec"):
        if not isinstance(document.get(part) or {}, dict):
            raise _Refused("the body is no run: %s has to be an object" % part)
    return document


def _refuse(record: dict[str, Any]) -> None:
    """Take what a context says while it runs: the response tells results; nobody would store an artifact."""
    if record.get("t") == "artifact":
        raise _errors.UserError("functions of kind nuclio:mlrun record no artifacts in this version; run it as a job")
