"""Serving events: the loop of a worker whose handler takes a context and an event."""

from __future__ import annotations

import posix
import sys
from _struct import Struct
from time import monotonic

from millrace import _errors, _event, _json, _load, _response, _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable

    from millrace._wire import Pipe

_MORE = 0x02  # flag of a response or piece: pieces follow
_HOLD = 0.0005  # seconds for which a response may wait for company
_SLOW = 500  # microseconds of one handler after which it is asked who had them
_LOOK = 0.01  # seconds between looks at whether somebody still wants a stream
_CAREFUL = 200  # responses that wait for nothing after one that took longer than _HOLD
_FEW = 16  # responses within _HOLD, of a handler for which it does not matter what a write costs
_LEFT = 2.0  # seconds for threads that the code has left when the worker is drained
_MOST = 0xFFFF  # microseconds that a frame tells
_LONG = _wire.LARGE
_HEADER = Struct("<IBBHII")  # length, type, flags, microseconds, call, length of the head
_FAILED_HEAD = b'{"status":500}'
_RUNTIME = __file__.rpartition("/")[0].rpartition("/")[0] + "/"


class EventHandler:
    """A handler that was loaded with mode "event", and what it is served with."""

    def __init__(self, head: dict[str, Any]) -> None:
        options = head.get("event") or {}
        trigger = options.get("trigger") or {}
        self._trigger = _event.TriggerInfo(trigger.get("kind", ""), trigger.get("name", ""))
        self._batch: list[tuple[int, _event.Event]] | None = [] if options.get("batch") else None
        self._begun = _mark(options.get("begun"))
        self._bytes = _wants_bytes()
        self._loop: Any = None  # of coroutines, made when one is met
        self._given_up: Callable[[Pipe, int], bool] = _cancelled
        self._held: Callable[[int], bool] = _never
        if options.get("jobs"):
            from millrace import _jobs

            module, self._handler, self.name = _jobs.find(head)
        else:
            module, self._handler, self.name = _find(head)
        self.is_async = _is_coroutine_function(self._handler)
        self.threads = 1 if self.is_async or options.get("batch") else int(options.get("threads") or 1)
        from millrace import _eventcontext

        level = str(options.get("log_level") or "debug")
        self.context = _eventcontext.Context(self._trigger, str(options.get("worker") or "0"), level)
        init = getattr(module, "init_context", None)
        if init is not None:
            value = init(self.context)
            if type(value).__name__ == "coroutine":
                self._await(value)
        if self.is_async:
            self.loop()  # now: its import would be time of the first event
        if self.is_async or self.threads > 1:
            self.context.logger.separate()

    # -- one after the other

    def serve(self, pipe: Pipe, call: int, flags: int, head: bytes, body: bytes) -> None:
        """Serve events, of which the first has been read, until the worker is drained; ends with an exception."""
        if self.is_async:
            from millrace import _eventloop

            _eventloop.serve(self, pipe, (call, flags, head, body))
            return
        if self.threads > 1:
            from millrace import _eventthreads

            _eventthreads.serve(self, pipe, (call, flags, head, body))
            return
        one = self._one if self._batch is None else self._collect
        plain = self._batch is None and not self._bytes
        kind = _wire.EVENT
        while True:
            if kind == _wire.EVENT:
                one(pipe, call, flags, head, body)
                pipe.flush()
            elif kind == _wire.DRAIN:
                pipe.flush()
                self.terminate()
                return
            elif kind != _wire.CANCEL and not flags & _wire.OPTIONAL:
                raise _wire.ProtocolError("a frame of the type %d arrived among events" % kind)
            if plain:
                self._burst(pipe)
            kind, flags, call, head, body = pipe.next()

    def _burst(self, pipe: Pipe) -> None:
        """Serve events with as little as possible done for each, until another sort of frame comes next.

        What is usual is spelled out here; everything else is left to others.
        """
        handler, context, trigger, begun = self._handler, self.context, self._trigger, self._begun
        unpack, new, size = _HEADER.unpack_from, _event.Event.__new__, _wire.HEADER
        out: list[bytes] = []
        careful = 0
        spent = _unknown  # until a response has waited for long
        before: tuple[int, float] | None = None
        buffer, at = pipe.rest()
        held = now = monotonic()
        while True:
            end = at + size
            if end <= len(buffer):
                length, kind, flags, reserved, call, head = unpack(buffer, at)
                if kind != _wire.EVENT or flags & _event.CAPTURE or reserved or not head <= length <= _LONG:
                    break
                end += length
            if end > len(buffer):
                pipe.leave(at)
                pipe.write(out)
                out = []
                pipe.fill()
                buffer, at = pipe.rest()
                before = spent()
                held = now = monotonic()
                continue
            if begun is not None:
                begun[0] = call
            event = new(_event.Event)
            event._flags = flags
            event._trigger = trigger
            event._head = buffer[at + size : at + size + head]
            event._raw = event._body = buffer[at + size + head : end]
            if flags & _event.JSON:
                event._body = _event.UNREAD
            at = end
            try:
                value = handler(context, event)
                if type(value) is bytes:
                    head, body = b"", value
                else:
                    reply = self._encoded(value)
                    if isinstance(reply, _response.Stream):
                        pipe.leave(at)
                        pipe.write(out)
                        self._stream(pipe, call, reply)
                        pipe.flush()
                        return
                    head, body = reply
                ended = monotonic()
                took = int((ended - now) * 1e6) + 1
                if took > _SLOW and _displaced(before, spent()):
                    took = 0  # it is not known
                if len(body) > _LONG:
                    frame = b""
                    pipe.leave(at)
                    pipe.write(out)
                    out = []
                    pipe.queue_parts(answer(call, head, body, None))
                else:
                    frame = _packed(call, head, body, took)
            except BaseException as error:
                self.leave_if_forked(pipe, error)
                frame = failed(call, error, None)
                ended = monotonic()
            if pipe.forked:
                self.leave_if_forked(pipe, None)
            if frame:
                out.append(frame)
            now = ended
            if careful:
                careful -= 1
            elif now - held <= _HOLD:
                continue
            elif len(out) < _FEW and not _displaced(before, spent()):
                careful = _CAREFUL  # a response that is ready must not wait for a slow handler
                spent = _usage()
            pipe.write(out)
            out = []
            before = spent()
            held = now
        pipe.leave(at)
        pipe.write(out)

    def terminate(self) -> None:
        """Tell the handler's module that there are no more events."""
        callback = self.context.platform._on_termination
        if callback is not None:
            value = callback()
            if type(value).__name__ == "coroutine":
                self._await(value)
        _end_threads()

    def event(self, flags: int, head: bytes, body: bytes) -> _event.Event:
        """Make the event of a frame."""
        event = _event.from_frame(flags, head, body, self._trigger)
        return _event.decode_strings(event) if self._bytes else event

    def _one(self, pipe: Pipe, call: int, flags: int, head: bytes, body: bytes) -> None:
        if self._begun is not None:
            self._begun[0] = call
        records = None
        if flags & _event.CAPTURE:
            records = self.context.logger.capture(_json.loads(head.decode()).get("log_level"))
        try:
            event = _event.from_frame(flags, head, body, self._trigger)
            if self._bytes:
                event = _event.decode_strings(event)
            reply = self._encoded(self._handler(self.context, event))
        except BaseException as error:
            self.leave_if_forked(pipe, error)
            reply = None
            frame = failed(call, error, records)
        if pipe.forked:
            self.leave_if_forked(pipe, None)
        if records is not None:
            self.context.logger.release()
        if reply is None:
            pipe.queue(frame)
        elif isinstance(reply, _response.Stream):
            self._stream(pipe, call, reply)
        else:
            pipe.queue_parts(answer(call, reply[0], reply[1], records))

    def seat(self, given_up: Callable[[Pipe, int], bool], held: Callable[[int], bool]) -> EventHandler:
        """Return the handler for one thread: with the same context, and a loop of its own.

        held waits while a call's response has to, and says whether it has waited.
        """
        from copy import copy

        seat = copy(self)
        seat._loop, seat._begun, seat._given_up, seat._held = None, None, given_up, held
        return seat

    def one(self, pipe: Pipe, call: int, flags: int, head: bytes, body: bytes) -> None:
        """Serve one event."""
        self._one(pipe, call, flags, head, body)
        pipe.flush()

    def _encoded(self, value: Any) -> tuple[bytes, bytes] | _response.Stream:
        if type(value).__name__ == "coroutine":
            value = self._await(value)
        return _response.encode(value)

    def _stream(self, pipe: Pipe, call: int, stream: _response.Stream) -> None:
        pipe.queue(_wire.pack(_wire.RESPONSE, call, stream.head, b"", _MORE))
        pipe.flush()
        pieces = stream.pieces
        if hasattr(pieces, "__anext__"):
            pieces = self._drawn(pieces)
        looked = monotonic()
        try:
            for value in pieces:
                data = _response.piece(value)
                if data:
                    pipe.queue(_wire.pack(_wire.PIECE, call, b"", data, _MORE))
                    pipe.flush()
                if self._held(call) or monotonic() - looked > _LOOK:
                    if self._given_up(pipe, call):
                        pieces.close()
                        break
                    looked = monotonic()
        except BaseException as error:
            self.leave_if_forked(pipe, error)
            complain(error)
            pipe.queue(_wire.pack(_wire.PIECE, call, b"", b"", _wire.FAILED))
            return
        self.leave_if_forked(pipe, None)
        pipe.queue(_wire.pack(_wire.PIECE, call, b"", b""))

    def _drawn(self, pieces: Any) -> Any:
        """Draw from an asynchronous generator."""
        while True:
            try:
                yield self._await(pieces.__anext__())
            except StopAsyncIteration:
                return

    def _await(self, coroutine: Any) -> Any:
        return self.loop().run_until_complete(coroutine)

    def loop(self) -> Any:
        """Return the loop that coroutines of this worker run on."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    # -- batches

    def _collect(self, pipe: Pipe, call: int, flags: int, head: bytes, body: bytes) -> None:
        batch = self._batch if self._batch is not None else []
        batch.append((call, self.event(flags, head, body)))
        if flags & _event.MORE:
            return
        self._batch = []
        if self._begun is not None:
            self._begun[0] = call
        try:
            value = self._handler(self.context, [event for _, event in batch])
            if type(value).__name__ == "coroutine":
                value = self._await(value)
            frames = batch_replies(batch, value)
        except BaseException as error:
            self.leave_if_forked(pipe, error)
            frames = [failed(item, error, None, quiet=bool(at)) for at, (item, _) in enumerate(batch)]
        self.leave_if_forked(pipe, None)
        for frame in frames:
            pipe.queue(frame)

    def leave_if_forked(self, pipe: Pipe, error: BaseException | None) -> None:
        """End a process that user code forked and let return into the worker."""
        if pipe.forked:
            if error is not None and not isinstance(error, SystemExit):
                complain(error)
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except BaseException:
                    continue
            posix._exit(0 if error is None else 1)

    def call(self, event: Any) -> Any:
        """Call the handler."""
        return self._handler(self.context, event)

    def batch(self, call: int, flags: int, event: _event.Event) -> list[tuple[int, _event.Event]] | None:
        """Add an event; return what is to be handled together once that is complete."""
        if self._batch is None:
            return [(call, event)]
        self._batch.append((call, event))
        if flags & _event.MORE:
            return None
        whole, self._batch = self._batch, []
        return whole

    @property
    def batches(self) -> bool:
        """Whether the handler takes lists."""
        return self._batch is not None

    @property
    def begun(self) -> Any:
        """Where the call that is begun is noted; None if nobody asked."""
        return self._begun


def _end_threads() -> None:
    """See to it that threads which the code has left do not keep the process: every event is answered."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    main = threading.main_thread()
    left = [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
    if not left:
        return

    def end() -> None:
        from time import sleep

        sleep(_LEFT)
        _write("millrace: the worker ends although threads of its code run: %s\n" % ", ".join(left))
        try:
            sys.stdout.flush()
        finally:
            posix._exit(0)

    threading.Thread(target=end, daemon=True, name="end").start()


def _unknown() -> tuple[int, float] | None:
    """Return nothing: what the thread has spent is not asked for."""
    return None


def _usage() -> Callable[[], tuple[int, float] | None]:
    """Return what tells how often this thread has waited, and for how many seconds it has computed."""
    import resource

    which = getattr(resource, "RUSAGE_THREAD", None)
    if which is None:
        return _unknown

    def spent() -> tuple[int, float]:
        usage = resource.getrusage(which)
        return usage.ru_nvcsw, usage.ru_utime + usage.ru_stime

    return spent


def _displaced(before: tuple[int, float] | None, after: tuple[int, float] | None) -> bool:
    """Say whether other processes had the time that has passed: the handler neither waited nor computed as long."""
    if before is None or after is None:
        return False
    return before[0] == after[0] and after[1] - before[1] < _HOLD


def _cancelled(pipe: Pipe, call: int) -> bool:
    return call in pipe.cancelled()


def _never(_: int) -> bool:
    return False


def answer(call: int, head: bytes, body: bytes, records: list[dict[str, Any]] | None) -> list[bytes]:
    """Return the frame of a whole response, in parts."""
    if records is not None:
        told = _json.loads(head.decode()) if head else {}
        told["logs"] = records
        head = _json.dumps(told).encode()
    try:
        return _wire.parts(_wire.RESPONSE, call, head, body)
    except ValueError as error:
        return [failed(call, error, None)]


def _packed(call: int, head: bytes, body: bytes, took: int) -> bytes:
    """Return the frame of a response of a handler that took so many microseconds; 0 if that is not known."""
    took = took if took < _MOST else _MOST
    return _HEADER.pack(len(head) + len(body), _wire.RESPONSE, 0, took, call, len(head)) + head + body


def failed(call: int, error: BaseException, records: list[dict[str, Any]] | None, quiet: bool = False) -> bytes:
    """Return the frame of the response to an exception: status 500, its text and traceback."""
    if isinstance(error, _wire.Closed):
        raise error
    failure = _errors.failure_of(error, _RUNTIME)
    text = failure.get("traceback") or failure["message"] + "\n"
    if not quiet:
        _write(text)
    head = _FAILED_HEAD
    if records is not None:
        head = _json.dumps({"status": 500, "logs": records}).encode()
    return _wire.pack(_wire.RESPONSE, call, head, (failure["message"] + "\n\n" + text).encode(), _wire.FAILED)


def complain(error: BaseException) -> None:
    """Show an exception in the log."""
    failure = _errors.failure_of(error, _RUNTIME)
    _write(failure.get("traceback") or failure["message"] + "\n")


def _write(text: str) -> None:
    for stream in (sys.stderr, sys.__stderr__):
        try:
            stream.write(text)  # type: ignore[union-attr]
            stream.flush()  # type: ignore[union-attr]
            return
        except BaseException:
            continue


def batch_replies(batch: list[tuple[int, _event.Event]], value: Any) -> list[bytes]:
    """Return a frame for each event of a batch.

    A list as long as the batch whose items name no events answers them in their
    order; otherwise each item's event_id says which one it answers.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError("a handler of batches returns a list of responses, not %s" % type(value).__name__)
    named = {getattr(item, "event_id", "") for item in value} - {""}
    found: dict[int, Any] = {}
    if not named and len(value) == len(batch):
        found = {call: item for (call, _), item in zip(batch, value)}
    else:
        calls = {event.id: call for call, event in batch}
        for item in value:
            name = getattr(item, "event_id", "")
            if name in calls:
                found[calls[name]] = item
            else:
                _write("a response to the event %r, which is not in the batch, is dropped\n" % (name,))
    frames = []
    for call, _ in batch:
        try:
            if call not in found:
                raise _errors.UserError("the handler returned no response for this event of the batch")
            reply = _response.encode(found[call])
            if isinstance(reply, _response.Stream):
                raise TypeError("a response of a batch cannot be sent piece by piece")
            frames.append(b"".join(answer(call, reply[0], reply[1], None)))
        except Exception as error:
            frames.append(failed(call, error, None))
    return frames


def _find(head: dict[str, Any]) -> tuple[ModuleType | None, Callable[[Any, Any], Any], str]:
    """Load the code and return the handler's module, the handler and its name."""
    name = head.get("handler") or "handler"
    path, colon, function = name.partition(":")
    if colon and not function.startswith(":"):  # module:function, as Nuclio writes it
        head = dict(head, handler=function if head.get("file") else path + "." + function)
    else:
        head = dict(head, handler=name)
    found = _load.load(dict(head, mode="handler"))
    target = found._function if isinstance(found, _load.Handler) else None
    if target is None:
        raise _errors.UserError("the handler %r is a method; a handler of events is a function" % name)
    module = sys.modules.get(getattr(target, "__module__", "") or "")
    return module, target, found.name


def _is_coroutine_function(handler: Any) -> bool:
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return bool(code is not None and code.co_flags & 0x80)


def _mark(path: str | None) -> Any:
    """Return the mapping in which the call that is begun is noted."""
    if not path:
        return None
    from mmap import mmap

    file = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)
    try:
        return memoryview(mmap(file, 4)).cast("I")
    finally:
        posix.close(file)


def _wants_bytes() -> bool:
    value = posix.environ.get(b"NUCLIO_PYTHON_DECODE_EVENT_STRINGS", b"")
    return value.lower() in (b"no", b"false", b"disable", b"disabled")
