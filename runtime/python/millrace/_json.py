"""JSON through the C scanner and encoder, without importing the json package.

json imports re and with it a tenth of a second's worth of other people's
modules on a slow machine; the C halves of it need nothing. They are looked up
once, at start, so that a function that replaces json.dumps changes nothing here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def _plain(value: Any) -> Any:
    """Render what JSON has no form for."""
    return str(value)


def _c_codec() -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    import _json

    class Options:
        strict = False
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = {
            "NaN": float("nan"),
            "Infinity": float("inf"),
            "-Infinity": float("-inf"),
        }.__getitem__

    scan = _json.make_scanner(Options())  # type: ignore[arg-type]
    encode = _json.make_encoder(None, _plain, _json.encode_basestring_ascii, None, ":", ",", False, False, True)
    join = "".join

    def load(text: str) -> Any:
        value, _ = scan(text, 0)
        return value

    def dump(value: Any) -> str:
        return join(encode(value, 0))

    if load(dump({"a": [1, 2.5, None, True, "\u00e9"]})) != {"a": [1, 2.5, None, True, "\u00e9"]}:
        raise ImportError("_json is not the one this was written for")
    return load, dump


def _portable_codec() -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    from json import JSONDecoder, JSONEncoder

    encoder = JSONEncoder(default=_plain, check_circular=False, separators=(",", ":"))
    return JSONDecoder(strict=False).decode, encoder.encode


try:
    loads, _dump = _c_codec()
except (ImportError, AttributeError, TypeError):
    loads, _dump = _portable_codec()


def dumps(value: Any) -> str:
    """Encode value as ASCII JSON; NaN and infinities stay literals.

    Keys that are not strings, numbers, booleans or None, and structures that
    are too deep or contain themselves, are a ValueError.
    """
    try:
        return _dump(value)
    except RecursionError:
        raise ValueError("the value is nested too deeply or contains itself") from None
    except TypeError as error:
        raise ValueError(str(error)) from None
