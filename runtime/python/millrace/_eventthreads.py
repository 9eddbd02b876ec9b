"""Serving several events at once, each in a thread of the worker, to a handler that is no coroutine function."""

from __future__ import annotations

import posix
import sys
from _queue import SimpleQueue
from threading import Condition, Lock, Thread

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
        self._held: set[int] = set()  # whose clients have to take what they got before there is more
        self._turn = Condition()  # either of the two has changed
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
                    with self._turn:
                        self._given_up.add(call)
                        self._turn.notify_all()
            elif kind == _wire.HOLD:
                if call in self._open:
                    self._held.add(call)
            elif kind == _wire.GO_ON:
                with self._turn:
                    self._held.discard(call)
                    self._turn.notify_all()
            elif kind == _wire.DRAIN:
                break
            elif not flags & _wire.OPTIONAL:
                raise _wire.ProtocolError("a frame of the type %d arrived among events" % kind)
        with self._turn:
            self._held.clear()  # nobody reads on, so that the pipe has to slow them down
            self._turn.notify_all()
        for _ in self._all:
            self._waiting.put(None)
        for thread in self._all:
            thread.join()

    def _wait(self, call: int) -> bool:
        if call not in self._held:
            return False
        with self._turn:
            while call in self._held and call not in self._given_up:
                self._turn.wait()
        return True

    def _serve(self) -> None:
        seat = self._handler.seat(lambda _, call: call in self._given_up, self._wait)
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
            self._open.discard(call)  # first: what is said of it from now on means nothing
            self._given_up.discard(call)
            self._held.discard(call)
