"""What a real-time handler is given: the event, as users of Nuclio know it."""

from __future__ import annotations

from millrace import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON = 0x02  # flag of an event frame: the body is JSON
MORE = 0x04  # the next event belongs to the same batch
CAPTURE = 0x08  # log records are returned with the response

UNREAD: Any = object()
_DEFAULTS: dict[str, Any] = {
    "id": "", "method": "", "path": "/", "url": "", "content_type": "", "fields": {}, "headers": {},
    "shard_id": -1, "num_shards": 0, "offset": 0, "topic": "", "type": "", "type_version": "", "version": "",
}  # fmt: skip


class TriggerInfo:
    """Where an event comes from."""

    __slots__ = ("kind", "name")

    def __init__(self, kind: str = "", name: str = "") -> None:
        self.kind = kind
        self.name = name


class Event:
    """One event. What the handler does not look at is never decoded.

    body is bytes, or the value of a body that is JSON; bytes that claim to be
    JSON and are not stay bytes. headers and fields (of an HTTP query) have one
    value a name, the last; timestamp is a naive datetime in UTC.
    """

    __slots__ = ("__dict__", "_body", "_flags", "_head", "_raw", "_trigger")

    # What a test, or a handler that calls another, may make an event of.
    def __init__(
        self, body: Any = None, content_type: str = "", trigger: TriggerInfo | None = None, **known: Any
    ) -> None:
        unknown = sorted(set(known) - set(_DEFAULTS) - {"timestamp"})
        if unknown:
            raise TypeError("an event has no %s" % ", ".join(unknown))
        self._raw = b""
        self._flags = 0
        self._body = body
        self._head: Any = dict(known, content_type=content_type)
        self._trigger = trigger or TriggerInfo()

    def __getattr__(self, name: str) -> Any:
        """Decode the head at the first look at any part of it."""
        if name not in _DEFAULTS and name not in ("timestamp", "size", "last_in_batch"):
            raise AttributeError("an event has no attribute %r" % name)
        head = self._known()
        known = self.__dict__
        for key, default in _DEFAULTS.items():
            value = head.get(key)
            if value is None:
                value = dict(default) if isinstance(default, dict) else default
            known.setdefault(key, value)
        if name in known:
            return known[name]
        value = self._derived(name, head)
        known[name] = value
        return value

    def _known(self) -> dict[str, Any]:
        if type(self._head) is bytes:
            self._head = _json.loads(self._head.decode()) if self._head else {}
        return self._head

    def _derived(self, name: str, head: dict[str, Any]) -> Any:
        if name == "size":
            return len(self._raw)
        if name == "last_in_batch":
            return not self._flags & MORE
        from datetime import datetime, timezone

        given = head.get("timestamp")
        if given is not None and not isinstance(given, (int, float)):
            return given
        now = datetime.now(timezone.utc) if given is None else datetime.fromtimestamp(given, timezone.utc)
        return now.replace(tzinfo=None)

    @property
    def body(self) -> Any:
        """The body: bytes, or the value of JSON."""
        if self._body is UNREAD:
            self._body = self._raw
            if self._flags & JSON:
                from json import loads  # stricter than the codec of heads, as handlers expect

                try:
                    self._body = loads(self._raw.decode())
                except (ValueError, RecursionError) as error:
                    import sys

                    text = str(error) or type(error).__name__
                    sys.stderr.write("the body of an event says that it is JSON and is not: %s\n" % text)
        return self._body

    @body.setter
    def body(self, value: Any) -> None:
        self._body = value

    @property
    def trigger(self) -> TriggerInfo:
        """The kind and the name of the trigger."""
        given = self._known().get("trigger")
        if given:
            return TriggerInfo(given.get("kind", ""), given.get("name", ""))
        return self._trigger

    def get_header(self, name: str) -> Any:
        """Return a header by its name in any case; None without it."""
        wanted = name.lower()
        for key, value in self.headers.items():
            if key.lower() == wanted:
                return value
        return None

    def to_json(self) -> str:
        """Return the event as JSON; a body of bytes is base64."""
        from base64 import b64encode

        body = self.body
        if isinstance(body, bytes):
            body = b64encode(body).decode()
        said = {name: getattr(self, name) for name in _DEFAULTS}
        said.update(
            body=body,
            timestamp=str(self.timestamp),
            trigger={"kind": self.trigger.kind, "name": self.trigger.name},
            size=self.size,
        )
        return _json.dumps(said)

    def __repr__(self) -> str:
        return "Event(id=%r, method=%r, path=%r, size=%d)" % (self.id, self.method, self.path, self.size)


_new = Event.__new__


def from_frame(flags: int, head: bytes, body: bytes, trigger: TriggerInfo) -> Event:
    """Make the event of a frame."""
    event = _new(Event)
    event._flags = flags
    event._head = head
    event._raw = body
    event._body = UNREAD if flags & JSON else body
    event._trigger = trigger
    return event


def decode_strings(event: Event) -> Event:
    """Turn the strings of an event into bytes, for who asked for that with NUCLIO_PYTHON_DECODE_EVENT_STRINGS."""
    for name in ("id", "method", "path", "url", "content_type", "topic", "type", "type_version", "version"):
        setattr(event, name, getattr(event, name).encode("utf-8", "surrogateescape"))
    for name in ("fields", "headers"):
        pairs = getattr(event, name).items()
        setattr(event, name, {_bytes(key): _bytes(value) for key, value in pairs})
    return event


def _bytes(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
