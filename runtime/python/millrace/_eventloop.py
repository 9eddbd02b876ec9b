"""Serving events to a coroutine function: every event is a task on one loop."""

from __future__ import annotations

import sys

from millrace import _event, _events, _json, _response, _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._events import EventHandler
    from millrace._wire import Pipe


def serve(handler: EventHandler, pipe: Pipe, first: tuple[int, int, bytes, bytes]) -> None:
    """Serve events until the worker is drained and the last one is answered."""
    server = _Server(handler, pipe)
    handler.loop().run_until_complete(server.run(first))
    handler.terminate()


class _Server:
    def __init__(self, handler: EventHandler, pipe: Pipe) -> None:
        self._handler = handler
        self._pipe = pipe
        self._tasks: set[Any] = set()
        self._running: dict[int, Any] = {}  # tasks by their call, without those of batches
        self._held: dict[int, Any] = {}  # futures of calls whose clients have to take more first
        self._flushing = False
        self._over: Any = None  # a future: how serving ends

    async def run(self, first: tuple[int, int, bytes, bytes]) -> None:
        from asyncio import get_running_loop

        loop = self._loop = get_running_loop()
        self._over = loop.create_future()
        self._take(*first)
        self._frames()  # what came with the first one
        fd = self._pipe.descriptor()
        loop.add_reader(fd, self._readable)
        try:
            await self._over
        finally:
            loop.remove_reader(fd)
        while self._tasks:
            from asyncio import wait

            await wait(self._tasks)
        self._pipe.flush()

    def _readable(self) -> None:
        try:
            self._pipe.read_once()
            self._frames()
        except BaseException as error:
            self._end(error)

    def _frames(self) -> None:
        while self._pipe.buffered():
            kind, flags, call, head, body = self._pipe.next()
            if kind == _wire.EVENT:
                self._take(call, flags, head, body)
            elif kind == _wire.DRAIN:
                self._end(None)
                for held in list(self._held):
                    self._go_on(held)  # nobody reads on, so that the pipe has to slow them down
            elif kind == _wire.HOLD:
                if call in self._running and call not in self._held:
                    self._held[call] = self._loop.create_future()
            elif kind == _wire.GO_ON:
                self._go_on(call)
            elif kind == _wire.CANCEL:
                task = self._running.get(call)
                if task is not None:
                    self._loop.call_soon(task.cancel)  # after it has begun: it answers in any case
            elif not flags & _wire.OPTIONAL:
                raise _wire.ProtocolError("a frame of the type %d arrived among events" % kind)

    def _go_on(self, call: int) -> None:
        held = self._held.pop(call, None)
        if held is not None and not held.done():
            held.set_result(None)

    async def _turn(self, call: int) -> None:
        """Let others, and the pipe, have their turn, and wait until the response may go on."""
        from asyncio import sleep

        await sleep(0)
        while call in self._held:
            await self._held[call]

    def _end(self, error: BaseException | None) -> None:
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    def _take(self, call: int, flags: int, head: bytes, body: bytes) -> None:
        batch = self._handler.batch(call, flags, self._handler.event(flags, head, body))
        if batch is None:
            return
        if self._handler.begun is not None:
            self._handler.begun[0] = call
        if self._handler.batches:
            task = self._loop.create_task(self._batch(batch))
        else:
            task = self._running[call] = self._loop.create_task(self._one(call, flags, head, batch[0][1]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, call: int, flags: int, head: bytes, event: _event.Event) -> None:
        records = None
        logger = self._handler.context.logger
        if flags & _event.CAPTURE:
            records = logger.capture(_json.loads(head.decode()).get("log_level"))
        try:
            value = await self._handler.call(event)
            reply = _response.encode(value)
            if isinstance(reply, _response.Stream):
                await self._stream(call, reply)
                return
            frame = b"".join(_events.answer(call, reply[0], reply[1], records))
        except BaseException as error:
            self._handler.leave_if_forked(self._pipe, error)
            frame = _events.failed(call, error, records, quiet=_given_up(error))
        finally:
            self._running.pop(call, None)
            self._held.pop(call, None)
            if records is not None:
                logger.release()
        self._handler.leave_if_forked(self._pipe, None)
        self._send(frame)

    async def _batch(self, batch: list[tuple[int, _event.Event]]) -> None:
        try:
            value = await self._handler.call([event for _, event in batch])
            frames = _events.batch_replies(batch, value)
        except BaseException as error:
            self._handler.leave_if_forked(self._pipe, error)
            frames = [_events.failed(call, error, None, quiet=bool(at)) for at, (call, _) in enumerate(batch)]
        self._handler.leave_if_forked(self._pipe, None)
        for frame in frames:
            self._send(frame)

    async def _stream(self, call: int, stream: _response.Stream) -> None:
        pack, pieces = _wire.pack, stream.pieces
        self._send(pack(_wire.RESPONSE, call, stream.head, b"", _events._MORE))
        try:
            if hasattr(pieces, "__anext__"):
                async for value in pieces:
                    self._piece(call, value)
                    await self._turn(call)
            else:
                for value in pieces:
                    self._piece(call, value)
                    await self._turn(call)
        except BaseException as error:
            self._handler.leave_if_forked(self._pipe, error)
            if _given_up(error):
                await _close(pieces)
            else:
                _events.complain(error)
            self._send(pack(_wire.PIECE, call, b"", b"", _wire.FAILED))
            return
        self._handler.leave_if_forked(self._pipe, None)
        self._send(pack(_wire.PIECE, call, b"", b""))

    def _piece(self, call: int, value: Any) -> None:
        data = _response.piece(value)
        if data:
            self._pipe.queue(_wire.pack(_wire.PIECE, call, b"", data, _events._MORE))
            self._pipe.flush()

    def _send(self, frame: bytes) -> None:
        """Send with whatever else is ready in this turn of the loop."""
        self._pipe.queue(frame)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        try:
            self._pipe.flush()
        except OSError as error:
            sys.stderr.write("millrace: a response cannot be sent: %s\n" % error)
            self._end(_wire.Closed())


def _given_up(error: BaseException) -> bool:
    """Whether the host has cancelled the event: nobody is interested in how it ends."""
    return type(error).__name__ == "CancelledError"


async def _close(pieces: Any) -> None:
    try:
        if hasattr(pieces, "aclose"):
            await pieces.aclose()
        else:
            pieces.close()
    except BaseException as error:
        _events.complain(error)
