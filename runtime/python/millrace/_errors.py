"""Failures of user code as data."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LIMIT = 32000
_FRAMES = 200  # of a traceback; recursion errors have a thousand alike


class UserError(Exception):
    """A mistake in what the user gave: code, handler, arguments. Its text is the whole message.

    names are the handlers that were found where the wanted one was not.
    """

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.names = list(names)


def text_of(error: BaseException) -> str:
    """Return the error's text with those of its explicit causes: "A, caused by: B".

    More than 32000 characters are cut in the middle.
    """
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append(_own_text(current))
        current = current.__cause__
    text = ", caused by: ".join(parts)
    if len(text) > _LIMIT:
        half = _LIMIT // 2
        text = "%s ... %d characters left out ... %s" % (text[:half], len(text) - _LIMIT, text[-half:])
    return text


def _own_text(error: BaseException) -> str:
    try:
        return str(error) or repr(error)
    except BaseException:
        return "%s (whose text cannot be made)" % type(error).__name__


def failure_of(error: BaseException, runtime_dir: str) -> dict[str, Any]:
    """Describe error as the protocol's failure object."""
    failure: dict[str, Any] = {"type": _type_name(error), "message": text_of(error)}
    if isinstance(error, UserError):
        if error.names:
            failure["names"] = error.names
        if error.__cause__ is None:
            return failure
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        failure["message"] = "%s:%s: %s" % (_base_name(str(error.filename)), error.lineno, error.msg)
    failure["traceback"] = traceback_of(error, runtime_dir)
    return failure


def _type_name(error: BaseException) -> str:
    cls = type(error)
    if isinstance(error, UserError):
        return "UserError"
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return "%s.%s" % (cls.__module__, cls.__qualname__)


def _base_name(path: str) -> str:
    return path.rpartition("/")[2]


def traceback_of(error: BaseException, runtime_dir: str) -> str:
    """Return the printed form of error as Python shows it, without the runtime's own frames."""
    try:
        from sys import version_info
        from traceback import TracebackException

        options = {"compact": True} if version_info >= (3, 10) else {}
        trace = error.__traceback__
        while trace is not None and _is_own(trace.tb_frame.f_code.co_filename, runtime_dir):
            trace = trace.tb_next
        whole = TracebackException(type(error), error, trace, **options)  # type: ignore[arg-type]
        part: Any = whole
        visited = set()
        while part is not None and id(part) not in visited:
            visited.add(id(part))
            _trim(part, runtime_dir)
            part = part.__cause__ or part.__context__
        return "".join(whole.format())
    except BaseException as problem:  # an error whose own text raises, or no memory
        return "%s: %s (no traceback: %s)\n" % (type(error).__name__, _own_text(error), type(problem).__name__)


def _trim(part: Any, runtime_dir: str) -> None:
    stack = part.stack
    stack[:] = [frame for frame in stack if not frame.filename.startswith(runtime_dir)]
    while stack and _is_own(stack[0].filename, runtime_dir):
        del stack[0]
    if len(stack) > _FRAMES:
        del stack[_FRAMES // 2 : len(stack) - _FRAMES // 2]


def _is_own(filename: str, runtime_dir: str) -> bool:
    return filename.startswith((runtime_dir, "<frozen importlib"))
