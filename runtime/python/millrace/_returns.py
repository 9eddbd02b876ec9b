"""Results and artifacts from what a handler returns, by the run's `returns` hints."""

from __future__ import annotations

from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from millrace._context import MLClientCtx


def log(context: MLClientCtx, value: Any, hints: list[Any]) -> dict[str, Any]:
    """Log the artifacts that hints make of value, and return the results.

    A tuple is spread over the hints, anything else is the first one's. A None
    hint skips its value, None as value gives nothing, and what is left over on
    either side is ignored. `*key` spreads an iterable as key0, key1, …; `**key`
    a dict as key<name>. A value that cannot be packed as its hint asks is said
    in the log and left out; the others, and the run, go on.
    """
    parsed = [None if hint is None else _parse(hint) for hint in hints]
    values = value if type(value) is tuple else (value,)
    if len(values) != len(parsed):
        context.logger.warning(
            "the handler returned %d values for the %d entries of returns; what is left over is ignored"
            % (len(values), len(parsed))
        )
    found: dict[str, Any] = {}
    for item, hint in zip(values, parsed):
        if hint is None or item is None:
            continue
        key, kind, options = hint
        try:
            for name, single in _spread(key, item):
                found.update(_log_one(context, name, single, kind, options))
        except Exception as error:  # of a hint that does not fit, a full disk, an object that cannot be pickled
            context.logger.warning("the output %r is not recorded: %s" % (key, str(error) or type(error).__name__))
    return found


def _log_one(context: MLClientCtx, key: str, value: Any, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    if value is None:
        return {}
    if not kind and type(value) in (int, float, str, bool):
        return {key: value}
    from millrace import _pack

    packed = _pack.pack(key, value, kind, options)
    _pack.log(context, packed)
    return packed.results


def _parse(hint: Any) -> tuple[str, str, dict[str, Any]]:
    options: dict[str, Any] = {}
    if isinstance(hint, dict):
        options = dict(hint)
        key, kind = options.pop("key", None), options.pop("artifact_type", None) or ""
    else:
        key, separator, kind = str(hint).replace(" ", "").partition(":")
        if separator and (not kind or ":" in kind):
            key = None
    if not key or not str(key).strip("*"):
        raise UserError("the entry %r of returns is not valid; write it as 'key' or 'key : type'" % (hint,))
    return str(key), str(getattr(kind, "value", kind)), options


def _spread(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key.startswith("**"):
        if not isinstance(value, dict):
            raise TypeError("** takes a dict, the handler returned %s" % type(value).__name__)
        for name, item in value.items():
            yield "%s%s" % (key[2:], name), item
    elif key.startswith("*"):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise TypeError("* takes a list or another iterable, the handler returned %s" % type(value).__name__)
        for number, item in enumerate(value):
            yield "%s%d" % (key[1:], number), item
    else:
        yield key, value
