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
_HOOKS = ("init_context", "handler", "nuclio_init_hook")  # what the SDK appends to the code
_RUNTIME = __file__.rpartition("/")[0].rpartition("/")[0] + "/"


def find(head: dict[str, Any]) -> tuple[ModuleType | None, Callable[[Any, Any], Any], str]:
    """Load the code and return its module, the handler of events and a name for it."""
    path, colon, name = (head.get("handler") or "").rpartition(":")
    if colon and not head.get("file"):
        head = dict(head, module=path)
    module = _load.load_module(head)
    jobs = Jobs(vars(module) if module is not None else {}, name)
    return module, jobs.answer, name or "jobs"


class _Refused(Exception):
    """The event is no run for a handler of this code."""


class Jobs:
    """The handlers of jobs among names; default is the one of a path that names none."""

    def __init__(self, names: dict[str, Any], default: str) -> None:
        self._names = names
        self._default = default
        self._known: dict[str, _load.Handler] = {}

    def answer(self, context: Any, event: _event.Event) -> _response.Response:
        """Execute the run that an event carries."""
        name = event.path.strip("/").partition("/")[0] or self._default
        try:
            document = _document(event.body)
            job = self._job(name)
        except _Refused as error:
            return _response.Response(status_code=400, body=str(error) + "\n")
        run = _context.MLClientCtx(document, _Recorder(document).take)
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
        answer = run.to_dict()
        _record(answer)
        if answer["status"]["state"] == "completed":
            answer["status"]["state"] = "running"  # whoever sent it records its end, and does not if it says so itself
        return _response.Response(body=_json.dumps(answer), content_type="application/json")

    def _job(self, name: str) -> _load.Handler:
        found = self._known.get(name)
        if found is None:
            function = self._names.get(name)
            hook = name in _HOOKS and _HOOKS[-1] in self._names
            if type(function) is not _Function or name.startswith("_") or hook:
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


def _record(run: dict[str, Any]) -> None:
    """Record results before the response leaves; it has them too, so that without a server nothing is lost."""
    from millrace import _channel

    if not (run["metadata"].get("uid") and run["status"].get("results") and _channel.available()):
        return
    try:
        _channel.results(run)
    except (OSError, ValueError) as error:
        sys.stderr.write("the results are in the response alone: %s\n" % error)


class _Recorder:
    """Takes what the context of a run says: artifacts are recorded at once, results leave with the response."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._project = (document.get("metadata") or {}).get("project") or "default"

    def take(self, record: dict[str, Any]) -> None:
        """Record an artifact; an error says that it is not recorded."""
        if record.get("t") == "artifact":
            from millrace import _channel

            _channel.record(self._project, record)
