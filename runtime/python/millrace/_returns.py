"""Results from what a handler returns, by the run's `returns` hints."""

from __future__ import annotations

from millrace import _values
from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PLAIN = (str, int, float, bool, list, dict, tuple, set, frozenset)
_SMALL_ARRAY = 10  # elements; larger ones would be files


def results(value: Any, hints: list[Any]) -> dict[str, Any]:
    """Return the results that hints make of value.

    A tuple is spread over the hints, anything else is the first one's. A None
    hint skips its value, None as value gives none, and what is left over on
    either side is ignored. `*key` spreads a sequence as key0, key1, …; `**key`
    a dict as key<name>.
    """
    values = value if type(value) is tuple else (value,)
    found: dict[str, Any] = {}
    for item, hint in zip(values, hints):
        if hint is None or item is None:
            continue
        key, kind = _parse(hint)
        for name, single in _spread(key, item):
            found[name] = _result(name, single, kind)
    return found


def _parse(hint: Any) -> tuple[str, str]:
    if isinstance(hint, dict):
        key, kind = hint.get("key"), hint.get("artifact_type") or ""
    else:
        key, _, kind = str(hint).replace(" ", "").partition(":")
    if not key:
        raise UserError("the entry %r of returns has no key; write it as 'key' or 'key : type'" % (hint,))
    return str(key), str(kind)


def _spread(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key.startswith("**"):
        if not isinstance(value, dict):
            raise UserError("returns has %r, but the handler returned %s, not a dict" % (key, type(value).__name__))
        for name, item in value.items():
            yield "%s%s" % (key[2:], name), item
    elif key.startswith("*"):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise UserError("returns has %r, but the handler returned %s" % (key, type(value).__name__))
        for number, item in enumerate(value):
            yield "%s%d" % (key[1:], number), item
    else:
        yield key, value


def _result(key: str, value: Any, kind: str) -> Any:
    if kind not in ("", "result"):
        raise UserError(_refusal(key, "an artifact of type %r" % kind))
    if isinstance(value, (tuple, set, frozenset)):
        return _values.cast(list(value))
    if isinstance(value, _PLAIN) or kind == "result":
        return _values.cast(value)
    module = type(value).__module__.partition(".")[0]
    if module == "numpy" and getattr(value, "size", _SMALL_ARRAY) < _SMALL_ARRAY:
        return _values.cast(value)
    if module == "pathlib":
        return str(value)
    kind = "%s.%s" % (type(value).__module__, type(value).__qualname__)
    raise UserError(_refusal(key, "a file for a value of type " + kind))


def _refusal(key: str, what: str) -> str:
    return (
        "the output %r asks for %s, which the built-in runtime does not make; return a number, text, list or dict, "
        "write the file and call context.log_artifact, or add mlrun to the function's requirements and import it"
    ) % (key, what)
