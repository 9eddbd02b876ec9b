"""The handler decorator, packagers, and the names of artifact types."""

from __future__ import annotations

from enum import Enum
from typing import Any, Callable, TypeVar

from millrace import _context, _facade, _returns, _unpack
from millrace._data import DataItem
from millrace._packagers import DefaultPackager, Packager

__all__ = ["ArtifactType", "DefaultPackager", "LogHint", "LogHintKey", "Packager", "handler"]

_Options = dict[str, Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class ArtifactType(str, Enum):
    """What a value can be packed as."""

    OBJECT = "object"
    PATH = "path"
    FILE = "file"
    DATASET = "dataset"
    MODEL = "model"
    PLOT = "plot"
    RESULT = "result"


class LogHintKey:
    """The keys of a log hint in dict form."""

    KEY = "key"
    ARTIFACT_TYPE = "artifact_type"
    EXTRA_DATA = "extra_data"
    METRICS = "metrics"


class LogHint:
    """How a returned value is recorded: an entry of `returns` with names for its parts."""

    def __init__(
        self,
        key: str,
        tag: str = "",
        itemized: bool | int = False,
        artifact_type: str | None = None,
        packing_kwargs: _Options | None = None,
        labels: _Options | None = None,
        artifact_path: str | None = None,
        extra_data: _Options | None = None,
        metrics: _Options | None = None,
    ) -> None:
        self.key = key
        self.tag = tag
        self.itemized = itemized
        self.artifact_type = artifact_type
        self.packing_kwargs = packing_kwargs or {}
        self.labels = labels
        self.artifact_path = artifact_path
        self.extra_data = extra_data or {}
        self.metrics = metrics or {}

    def dict(self) -> _Options:
        """Return the entry as a dict."""
        return vars(self).copy()


class MLRunPackageError(Exception):
    """The base of the errors of packagers."""


class MLRunPackageCollectionError(MLRunPackageError):
    """A packager that cannot be found."""


class MLRunPackagePackingError(MLRunPackageError):
    """A value that cannot be packed."""


class MLRunPackageUnpackingError(MLRunPackageError):
    """An input that cannot be unpacked."""


def handler(
    labels: dict[str, str] | None = None,
    outputs: list[str | dict[str, Any] | LogHint | None] | None = None,
    inputs: bool | dict[str, str | type] = True,
) -> Callable[[_Function], _Function]:
    """Parse a function's inputs by their types and log what it returns, when it is called within a run.

    outputs are log hints; with them the function returns None. inputs False leaves
    data items as they are, a dict gives types by argument. labels are set on the
    run after the call. Outside of a run the function is called as it is.
    """

    def decorate(function: _Function) -> _Function:
        import functools
        import inspect

        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            context = _context_of(args, kwargs)
            if context is None:
                return function(*args, **kwargs)
            if inputs is not False:
                bound = signature.bind(*args, **kwargs)
                _parse(function, bound.arguments, inputs if isinstance(inputs, dict) else {})
                args, kwargs = bound.args, bound.kwargs
            value = function(*args, **kwargs)
            for key, label in (labels or {}).items():
                context.set_label(key, label)
            if outputs:
                results = _returns.log(context, value, outputs)
                if results:
                    context.log_results(results)
                return None
            return value

        return wrapper  # type: ignore[return-value]

    return decorate


def _context_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _context.MLClientCtx | None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, _context.MLClientCtx):
            return value
    return _context._current


def _parse(function: Any, arguments: dict[str, Any], given: dict[str, str | type]) -> None:
    texts = {key: hint for key, hint in given.items() if isinstance(hint, str)}
    typed = _unpack.for_handler(function, texts)
    annotations = dict(getattr(function, "__annotations__", {}))
    annotations.update({key: hint for key, hint in given.items() if not isinstance(hint, str)})
    for name, value in arguments.items():
        if isinstance(value, DataItem):
            arguments[name] = typed(name, value, annotations.get(name))


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
