"""Results and artifacts from what a handler returns, by the run's `returns` hints."""

from __future__ import annotations

from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from millrace._context import MLClientCtx
    from millrace._pack import Packed

_LINKS = (..., "...", "Ellipsis")  # how a link to another output is written, in Python and in JSON


class Hint:
    """One entry of `returns`: how a value is recorded.

    depth is how many levels of dicts and lists become outputs of their own, -1 for
    all. extra_data and metrics are put into the artifact's; a value of `...` stands
    for the output of that key.
    """

    def __init__(self, key: str, kind: str = "", options: dict[str, Any] | None = None) -> None:
        self.key = key
        self.kind = kind
        self.options = options or {}
        self.depth = 0
        self.tag = ""
        self.artifact_path: str | None = None
        self.labels: dict[str, Any] | None = None
        self.extra_data: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}


def log(context: MLClientCtx, value: Any, hints: list[Any]) -> dict[str, Any]:
    """Log the artifacts that hints make of value, and return the results.

    A tuple is spread over the hints, anything else is the first one's. A None
    hint skips its value, and what is left over on either side is ignored. `*key`
    spreads an iterable as key0, key1, …; `**key` a dict as key<name>. A value that
    cannot be packed as its hint asks is said in the log and left out; the others,
    and the run, go on.
    """
    parsed = [None if hint is None else parse(hint) for hint in hints]
    values = value if type(value) is tuple else (value,)
    if len(values) != len(parsed):
        context.logger.warning(
            "the handler returned %d values for the %d entries of returns; what is left over is ignored"
            % (len(values), len(parsed))
        )
    custom: list[Any] = []
    if (context._document.get("spec") or {}).get("custom_packagers"):
        from millrace import _packagers

        custom = _packagers.of_run(context)
    results: dict[str, Any] = {}
    made: list[tuple[Hint, Packed]] = []
    try:
        for item, hint in zip(values, parsed):
            if hint is None:
                continue
            try:
                for name, single in _spread(hint, item):
                    output = _pack(context, name, single, hint, custom, results)
                    if output is not None:
                        made.append((hint, output))
            except Exception as error:  # of a hint that does not fit, a full disk, an object that cannot be pickled
                _left_out(context, hint.key, error)
        if made:
            from millrace import _links

            _links.resolve(context, [packed.artifact for _, packed in made], results)
            for hint, packed in _links.in_order(made):
                _log_one(context, hint, packed)
    finally:
        for _, packed in made:
            packed.discard()
        for packager in custom:
            packager.clear()
    return results


def _left_out(context: MLClientCtx, key: str, error: Exception) -> None:
    context.logger.warning("the output %r is not recorded: %s" % (key, str(error) or type(error).__name__))


def _pack(
    context: MLClientCtx, key: str, value: Any, hint: Hint, custom: list[Any], results: dict[str, Any]
) -> Packed | None:
    """Put value among the results, or return the artifact that it becomes."""
    if value is None and (key in context._results or key in context._artifacts):
        return None  # the code has recorded it itself
    if not custom and not hint.kind and (value is None or type(value) in (int, float, str, bool)):
        results[key] = value
        return None
    from millrace import _pack

    packed = None
    for packager in custom:
        if packager.is_packable(value, hint.kind or None, hint.options):
            packed = _pack.by(packager, key, value, hint.kind, hint.options)
            break
    if packed is None:
        unknown = [name for name in hint.options if name not in _pack.OPTIONS]
        if unknown:
            context.logger.warning(
                "the output %r: its packing has no option %s, which is ignored" % (key, ", ".join(map(repr, unknown)))
            )
        packed = _pack.pack(key, value, hint.kind, hint.options)
    results.update(packed.results)
    if packed.artifact is None:
        return None
    artifact = packed.artifact
    if hint.extra_data:
        artifact.extra_data = _linked(hint.extra_data)
    if hint.metrics:
        if not hasattr(artifact, "metrics"):
            packed.discard()
            raise _pack.Refused("metrics are for models, and this is recorded as %s" % artifact.kind)
        artifact.metrics = _linked(hint.metrics)
    return packed


def _linked(given: dict[str, Any]) -> dict[str, Any]:
    return {key: ... if value in _LINKS else value for key, value in given.items()}


def _log_one(context: MLClientCtx, hint: Hint, packed: Packed) -> None:
    from millrace import _pack

    try:
        _pack.log(context, packed, tag=hint.tag, labels=hint.labels, artifact_path=hint.artifact_path)
    except Exception as error:
        _left_out(context, packed.artifact.key, error)


def parse(hint: Any) -> Hint:
    """Return what an entry of `returns` says; it is text, a dict, or an object with a method dict()."""
    if not isinstance(hint, (str, dict)) and hasattr(hint, "dict"):
        hint = hint.dict()
    found = _from_dict(dict(hint)) if isinstance(hint, dict) else _from_text(str(hint))
    if found is None or not found.key.strip("*"):
        raise UserError("the entry %r of returns is not valid; write it as 'key' or 'key : type'" % (hint,))
    level, star, key = found.key.partition("*")
    if star and level:
        if not level.isdecimal() or "*" in key or not key:
            raise UserError("the entry %r of returns is not valid; a number before * is how many levels" % (hint,))
        found.depth, found.key = int(level), key
    return found


def _from_dict(given: dict[str, Any]) -> Hint | None:
    key = given.pop("key", None)
    if not isinstance(key, str) or not key:
        return None
    kind = given.pop("artifact_type", None) or ""
    found = Hint(key.strip(), str(getattr(kind, "value", kind)))
    itemized = given.pop("itemized", False)
    found.depth = -1 if itemized is True else int(itemized or 0)
    found.tag = given.pop("tag", None) or ""
    found.labels = given.pop("labels", None)
    found.artifact_path = given.pop("artifact_path", None)
    found.extra_data = dict(given.pop("extra_data", None) or {})
    found.metrics = dict(given.pop("metrics", None) or {})
    found.options = dict(given.pop("packing_kwargs", None) or {}, **given)
    return found


def _from_text(text: str) -> Hint | None:
    """Read `key`, `key : type` or `key : type[option=value, …]`."""
    text, bracket, options = text.partition("[")
    key, separator, kind = text.replace(" ", "").partition(":")
    if not key or (separator and (not kind or ":" in kind)) or (bracket and not options.rstrip().endswith("]")):
        return None
    found = Hint(key, kind)
    if bracket:
        from ast import literal_eval

        for option in options.rstrip()[:-1].split(","):
            name, equals, value = option.partition("=")
            if not kind or not equals or not name.strip():
                return None
            try:
                found.options[name.strip()] = literal_eval(value.strip())
            except (ValueError, SyntaxError):
                return None
    return found


def _spread(hint: Hint, value: Any) -> Iterator[tuple[str, Any]]:
    key = hint.key
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
        yield from _itemized(key, value, hint.depth)


def _itemized(key: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    items: Any = None
    if depth and isinstance(value, dict):
        items = value.items()
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        items = enumerate(value)
    if items is None:
        yield key, value
        return
    for name, item in items:
        yield from _itemized("%s_%s" % (key, name), item, depth - 1)
