"""From type hints to the types that an input may become."""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALIASES = {"pd": "pandas", "np": "numpy"}


class Unresolved(Exception):
    """A hint that names something which cannot be found; its text says what."""


def types_of(hint: Any, namespace: dict[str, Any]) -> list[type]:
    """Return the types that hint allows, in its order; an empty list if it allows anything.

    hint is an annotation (or the text of one) of a handler whose globals are
    namespace. A DataItem, object or Any among the types means: leave the data
    item as it is.
    """
    found: list[type] = []
    for kind in _reduce(hint, namespace, 0):
        if kind is object or kind.__name__ == "DataItem":
            return []
        if kind is not type(None) and kind not in found:
            found.append(kind)
    return found


def named(text: str, namespace: dict[str, Any]) -> list[type]:
    """Return the types that the text of an input's hint, as in `data : pandas.DataFrame`, stands for.

    It is a name, never evaluated: a built-in type, a dotted path, or a name that the handler's module has.
    """
    path = text.strip().strip("'\"").partition("[")[0].strip()
    return types_of(_lookup(path, namespace), namespace)


def _reduce(hint: Any, namespace: dict[str, Any], depth: int) -> list[type]:
    if depth > 20:
        raise Unresolved("it refers to itself")
    if isinstance(hint, str):
        return _reduce(_evaluate(hint, namespace), namespace, depth + 1)
    if hint is None:
        return [type(None)]
    import typing

    if hint is typing.Any:
        return [object]
    forward = getattr(hint, "__forward_arg__", None)
    if forward is not None:
        return _reduce(forward, namespace, depth + 1)
    if isinstance(hint, typing.TypeVar):
        bounds = hint.__constraints__ or ((hint.__bound__,) if hint.__bound__ is not None else (object,))
        return _all(bounds, namespace, depth)
    if hasattr(hint, "__supertype__"):
        return _reduce(hint.__supertype__, namespace, depth + 1)
    if hasattr(hint, "__value__"):  # a `type` statement
        return _reduce(hint.__value__, namespace, depth + 1)
    if hasattr(hint, "__metadata__"):  # Annotated
        return _reduce(hint.__origin__, namespace, depth + 1)
    origin = typing.get_origin(hint)
    if origin is None:
        return [hint] if isinstance(hint, type) else [object]
    arguments = typing.get_args(hint)
    if origin is typing.Union or type(hint).__name__ == "UnionType":
        return _all(arguments, namespace, depth)
    if origin is typing.Literal:
        return [type(value) for value in arguments]
    if str(origin) in ("typing.Final", "typing.ClassVar"):
        return _all(arguments, namespace, depth)
    return [origin] if isinstance(origin, type) else [object]


def _all(hints: Any, namespace: dict[str, Any], depth: int) -> list[type]:
    return [kind for hint in hints for kind in _reduce(hint, namespace, depth + 1)]


def _evaluate(text: str, namespace: dict[str, Any]) -> Any:
    """Return what an annotation that was written as text, or postponed, means."""
    try:
        return eval(text, dict(namespace))  # noqa: S307 - the handler's own source
    except Exception:
        # Names imported for the type checker only, and `int | None` before Python 3.10.
        import typing

        parts = [part.strip() for part in text.split("|")]
        if len(parts) > 1 and "[" not in text:
            return typing.Union[tuple(None if part == "None" else _lookup(part, namespace) for part in parts)]
        return _lookup(text.strip().strip("'\"").partition("[")[0], namespace)


def _lookup(path: str, namespace: dict[str, Any]) -> Any:
    """Return the type behind a dotted path."""
    first, *rest = path.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        raise Unresolved("%r is not the name of a type" % path)
    if rest and rest[-1] == "DataItem":
        return object
    for known in (namespace, vars(builtins)):
        if first in known:
            found = known[first]
            if _follow(found, rest) is not None:
                return _follow(found, rest)
    if not rest:
        raise Unresolved("there is no type %r; write it with its module, as pandas.DataFrame" % path)
    modules = [_ALIASES.get(first, first), *rest[:-1]]
    for end in range(len(modules), 0, -1):
        name = ".".join(modules[:end])
        try:
            __import__(name)
        except ImportError:
            continue
        found = _follow(sys.modules[name], [*modules[end:], rest[-1]])
        if found is not None:
            return found
    raise Unresolved("%s is not installed in the function's environment, or has no such type" % path)


def _follow(found: Any, names: list[str]) -> Any:
    for name in names:
        found = getattr(found, name, None)
    return found
