"""What may stand in a run's document."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# An array with more elements is recorded as its text: a run is a record, not a store.
ARRAY_LIMIT = 10_000
_DEPTH = 100


def cast(value: Any, depth: int = 0) -> Any:
    """Return value as it is stored in status.results.

    Strings and numbers stay, lists and dicts are cast inside, numpy scalars
    and arrays become numbers and lists, None stays; anything else becomes its
    text: a tuple is "(1, 2)", as clients of the API know it.
    """
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if depth > _DEPTH:
        raise ValueError("a result is nested deeper than %d levels or contains itself" % _DEPTH)
    if isinstance(value, dict):
        return {_key(key): cast(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [cast(item, depth + 1) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if kind.__module__ == "numpy" or kind.__module__.startswith("numpy."):
        converted = _from_numpy(value)
        if converted is not None:
            return converted
    return str(value)


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    return str(key)


def _from_numpy(value: Any) -> Any:
    size = getattr(value, "size", None)
    if not isinstance(size, int) or not hasattr(value, "tolist") or size > ARRAY_LIMIT:
        return None
    plain = value.tolist()
    if isinstance(plain, list):
        return [_element(item) for item in plain]
    return plain if isinstance(plain, (bool, int, float, str)) else None


def _element(item: Any) -> Any:
    if isinstance(item, list):
        return [_element(inner) for inner in item]
    if item is None or isinstance(item, (bool, int, float, str)):
        return item
    return str(item)


def copy(value: Any) -> Any:
    """Return value with its dicts and lists copied."""
    if type(value) is dict:
        return {key: copy(item) for key, item in value.items()}
    if type(value) is list:
        return [copy(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """Return value as JSON holds it; parameters are not cast as results are."""
    from millrace import _json

    text = _json.dumps(value)
    if _depth_of(value) > _DEPTH:
        raise ValueError("a parameter is nested deeper than %d levels" % _DEPTH)
    return _json.loads(text)


def _depth_of(value: Any) -> int:
    if type(value) is dict:
        return 1 + max(map(_depth_of, value.values()), default=0)
    if type(value) in (list, tuple):
        return 1 + max(map(_depth_of, value), default=0)
    return 0
