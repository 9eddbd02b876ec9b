"""From what a real-time handler returns to a response."""

from __future__ import annotations

from millrace import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_JSON_HEAD = b'{"content_type":"application/json"}'
_NO_CONTENT = b'{"status":204,"content_type":""}'
_Generator = type((lambda: (yield))())


class Response:
    """A response with its status, content type and headers.

    A body that is a dict or a list is sent as JSON, a generator piece by piece.
    A header's value may be a list, for one that occurs several times.
    """

    def __init__(
        self,
        headers: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str | None = None,
        status_code: int = 200,
        event_id: str | None = None,
    ) -> None:
        self.headers = headers or {}
        self.body = body
        self.status_code = status_code
        self.content_type = content_type or "text/plain"
        self.event_id = event_id or ""
        self._typed = content_type is not None

    def __repr__(self) -> str:
        return "Response(status_code=%r, content_type=%r, headers=%r)" % (
            self.status_code,
            self.content_type,
            self.headers,
        )


class Stream:
    """A response whose body comes in pieces."""

    def __init__(self, head: bytes, pieces: Any) -> None:
        self.head = head
        self.pieces = pieces


def encode(value: Any) -> tuple[bytes, bytes] | Stream:
    """Return head and body of the response that a return value stands for.

    str and bytes are the body as text/plain; a dict or a list is JSON; a pair of
    a status and a body has that status, its body text if it is one and else JSON;
    None is 204 without a body; a generator is sent piece by piece; anything else
    is its str. A value that JSON has no form for is a ValueError.
    """
    kind = type(value)
    if kind is bytes:
        return b"", value
    if kind is str:
        return b"", _utf8(value)
    if kind is dict or kind is list:
        return _JSON_HEAD, json_body(value)
    if value is None:
        return _NO_CONTENT, b""
    return _encode_other(value)


def _encode_other(value: Any) -> tuple[bytes, bytes] | Stream:
    if isinstance(value, Response):
        return _encode_response(value)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int) and not isinstance(value[0], bool):
        status, body = value
        if isinstance(body, str):
            return _head({"status": _status(status)}), _utf8(body)
        if isinstance(body, (bytes, bytearray, memoryview)):
            return _head({"status": _status(status)}), bytes(body)
        return _head({"status": _status(status), "content_type": "application/json"}), json_body(body)
    if isinstance(value, (dict, list)):
        return _JSON_HEAD, json_body(value)
    if _streams(value):
        return Stream(b"", value)
    return b"", _plain(value)


def _encode_response(response: Any) -> tuple[bytes, bytes] | Stream:
    body, content_type = response.body, response.content_type
    head: dict[str, Any] = {"status": _status(response.status_code)}
    if isinstance(body, (dict, list)):
        data = json_body(body)
        if isinstance(body, dict) or not getattr(response, "_typed", True):
            content_type = "application/json"
    elif body is None or _streams(body):
        data = b""
    else:
        data = _plain(body)
    if content_type != "text/plain":
        head["content_type"] = str(content_type)
    if response.headers:
        head["headers"] = {str(name): _header(value) for name, value in dict(response.headers).items()}
    if _streams(body):
        return Stream(_head(head), body)
    return _head(head), data


def _streams(value: Any) -> bool:
    return type(value) is _Generator or hasattr(value, "__anext__")


def _status(status: Any) -> int:
    number = int(status)
    if not 200 <= number <= 599:
        raise ValueError("the status %r is none that a response can have (200 to 599)" % (status,))
    return number


def _header(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_header(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def _head(head: dict[str, Any]) -> bytes:
    return _json.dumps(head).encode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _plain(body: Any) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return _utf8(str(body))


def piece(value: Any) -> bytes:
    """Return the bytes of one piece of a stream."""
    if isinstance(value, (dict, list)):
        return json_body(value)
    return _plain(value)


def json_body(value: Any) -> bytes:
    """Return value as JSON; NaN and infinities are strings, as clients of Nuclio expect.

    A value that JSON has no form for is a ValueError that names its type.
    """
    from json import JSONEncoder

    encoder = _encoders.get("json")
    if encoder is None:
        encoder = _encoders["json"] = JSONEncoder(allow_nan=False, ensure_ascii=False, default=_refuse)
    try:
        text = encoder.encode(value)
    except TypeError as error:
        raise ValueError("the return value cannot be sent as JSON: %s" % error) from None
    except RecursionError:
        raise ValueError("the return value is nested too deeply for JSON") from None
    except ValueError as error:
        if "Circular" in str(error):
            raise ValueError("the return value cannot be sent as JSON: it contains itself") from None
        if "JSON compliant" not in str(error):
            raise
        text = encoder.encode(_named(value))
    return _utf8(text)


_encoders: dict[str, Any] = {}


def _refuse(value: Any) -> Any:
    raise TypeError("a value of type %s has no form in it" % type(value).__name__)


def _named(value: Any) -> Any:
    """Replace NaN and infinities by their names."""
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    return value
