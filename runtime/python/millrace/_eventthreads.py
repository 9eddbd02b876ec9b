"""Serving several events at once, each in a thread of the worker, to a handler that is no coroutine function."""

from __future__ import annotations

import posix
import sys
from _queue import SimpleQueue
from threading import Lock, Thread

from millrace import _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._events import EventHandler
    from millrace._wire import Pipe


def serve(handler: EventHandler, pipe: Pipe, first: tuple[int, int, bytes, bytes]) -> None:
    """Serve events until the worker is drained and the last one is answered."""
    _Threads(handler, pipe).run(first)
    handler.terminate()


class _Threads:
    """The threads and what waits for them; the host sends no more events than there are threads.

    The main thread alone reads the pipe. Any thread may write to it.
    """

    def __init__(self, handler: EventHandler, pipe: Pipe) -> None:
        self._handler = handler
        self._pipe = pipe
        self._waiting: SimpleQueue[Any] = SimpleQueue()
        self._taking = Lock()  # events are begun, and noted as such, in the order in which they came
        self._open: set[int] = set()
        self._given_up: set[int] = set()
        self._all = [Thread(target=self._serve, daemon=True, name="events-%d" % n) for n in range(handler.threads)]

    def run(self, first: tuple[int, int, bytes, bytes]) -> None:
        # While a module in C is imported the interpreter takes its lock, and all threads take turns: not at an answer.
        import json  # noqa: F401

        for thread in self._all:
            thread.start()
        self._open.add(first[0])
        self._waiting.put(first)
        while True:
            kind, flags, call, head, body = self._pipe.next()
            if kind == _wire.EVENT:
                self._open.add(call)
                self._waiting.put((call, flags, head, body))
            elif kind == _wire.CANCEL:
                if call in self._open:
                    self._given_up.add(call)
            elif kind == _wire.DRAIN:
                break
            elif not flags & _wire.OPTIONAL:
                raise _wire.ProtocolError("a frame of the type %d arrived among events" % kind)
        for _ in self._all:
            self._waiting.put(None)
        for thread in self._all:
            thread.join()

    def _serve(self) -> None:
        seat = self._handler.seat(lambda _, call: call in self._given_up)
        begun = self._handler.begun
        while True:
            with self._taking:
                item = self._waiting.get()
                if item is None:
                    return
                call, flags, head, body = item
                if begun is not None:
                    begun[0] = call
            try:
                seat.one(self._pipe, call, flags, head, body)
            except BaseException as error:
                # Not the handler's, whose errors are answers: the pipe is gone.
                sys.stderr.write("millrace: a response cannot be sent: %s\n" % error)
                posix._exit(1)
            self._open.discard(call)
            self._given_up.discard(call)
