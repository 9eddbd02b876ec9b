"""The worker's loop: take a frame, do what it says, answer."""

from __future__ import annotations

import posix
import sys
from _signal import SIGINT, signal

from millrace import _context, _errors, _json, _load, _site, _values, _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_RUNTIME = __file__.rpartition("/")[0].rpartition("/")[0] + "/"


class Exit(Exception):
    """Leave the process: after a drain with status 0, or in a forked child."""

    def __init__(self, status: int, quick: bool = False) -> None:
        self.status = status
        self.quick = quick


class Worker:
    """One process's worker.

    States: started → (load) → loaded → calls … → (drain or end of input) → gone.
    A failed load leaves it loaded with nothing; every call then fails the same way.
    """

    def __init__(self, pipe: _wire.Pipe) -> None:
        self._pipe = pipe
        self._target: _load.Script | _load.Handler | None = None
        self._served: Any = None  # a _events.EventHandler
        self._document: dict[str, Any] = {}
        self._marks: Any = None  # the module _marks, where it was asked for
        self._running = 0
        self._interrupted = False
        self._cancelled: set[int] = set()
        self._alone = False  # the answer leaves before the next call begins
        self._fork = False  # each call is executed by a fork of this process
        self._forked: tuple[int, int] | None = None  # the process of the call that is executed so

    def serve(self) -> None:
        """Work until drained; ends with Exit."""
        pipe = self._pipe
        while True:
            kind, flags, call, head, body = pipe.next()
            if kind == _wire.CALL:
                if self._fork:
                    from millrace import _iterfork

                    pipe.queue(_iterfork.call(self, call, head))
                else:
                    pipe.queue(self._call(call, head))
                if self._alone or not pipe.buffered():
                    pipe.flush()
            elif kind == _wire.LOAD:
                pipe.queue(self._load(call, head))
                pipe.flush()
            elif kind == _wire.EVENT:
                self._events(flags, call, head, body)
            elif kind == _wire.CANCEL:
                pass  # its call has been answered, or it would have been seen before
            elif kind == _wire.DRAIN:
                pipe.flush()
                raise Exit(0)
            elif not flags & _wire.OPTIONAL:
                raise _wire.ProtocolError("a frame of the unknown type %d arrived" % kind)

    def on_interrupt(self, number: int, frame: Any) -> None:
        """Handle SIGINT: stop the running call. Without one, look for cancelled calls first."""
        self._interrupted = True
        if self._forked is not None:
            from millrace import _iterfork

            _iterfork.interrupt(self)
        elif self._running:
            raise KeyboardInterrupt

    # -- load

    def _load(self, call: int, head: bytes) -> bytes:
        try:
            message = _json.loads(head.decode())
            template = sys.modules.get("millrace._template")
            if template is not None:
                template.check(message, head, self._pipe)
            if message.get("mode") == "event":
                from millrace import _events

                self._served = served = _events.EventHandler(message)
                if "modules" in message:
                    from millrace import _imported

                    _imported.tell(self._pipe)
                _flush()
                told = {"handler": served.name, "async": served.is_async, "threads": served.threads}
                return _wire.pack(_wire.LOADED, call, _json.dumps(told).encode())
            self._document = message.get("run") or {}
            if message.get("marks"):
                from millrace import _marks

                _marks.install()
                self._marks = _marks
            self._target = _load.load(message)
            loaded: dict[str, Any] = {"handler": self._target.name}
            if "modules" in message:
                from millrace import _imported

                self._target = _imported.report(self._pipe, self._target)
            if message.get("fork"):
                from millrace import _iterfork

                self._fork = loaded["fork"] = _iterfork.possible()
                if self._fork:
                    _iterfork.rehearse(self)
                    _iterfork.freeze()
        except BaseException as error:
            _leave_if_forked(self._pipe, error)
            failure = _failure(error)
            _flush()
            return _wire.pack(_wire.FAILURE, call, _json.dumps(failure).encode())
        _flush()
        return _wire.pack(_wire.LOADED, call, _json.dumps(loaded).encode())

    # -- events

    def _events(self, flags: int, call: int, head: bytes, body: bytes) -> None:
        """Serve this event and all that follow; ends with Exit."""
        if self._served is None:
            raise _wire.ProtocolError("an event arrived, and no handler of events is loaded")
        self._served.serve(self._pipe, call, flags, head, body)
        raise Exit(0)

    # -- calls

    def _call(self, call: int, head: bytes) -> bytes:
        context: _context.MLClientCtx | None = None
        try:
            if self._interrupted:
                self._interrupted = False
                self._cancelled |= self._pipe.cancelled()
            if call in self._cancelled:
                self._cancelled.discard(call)
                return _answer(call, {"state": "aborted"}, failed=True)
            context, message = self._make_context(call, head)
            _context.set_current(context)
            self._alone = bool(context.iteration)
            start = self._begin_marks() if message.get("marks") else None
            answer = self._execute(call, context, message.get("seed"))
            _flush()
            if start is not None:
                answer["log"] = [start, _log_size()]
                if self._marks is not None and self._marks.parts() != answer["log"]:
                    answer["own"] = self._marks.parts()
            return _answer(call, answer, failed=answer["state"] != "completed")
        except (Exit, _wire.ProtocolError):
            raise
        except BaseException as error:  # of the run's document, or of an answer that is too large
            _flush()
            return _answer(call, {"state": "error", "failure": _failure(error)}, failed=True)
        finally:
            self._running = 0

    def _begin_marks(self) -> int:
        if self._marks is not None:
            self._marks.begin()
        return _log_size()

    def _make_context(self, call: int, head: bytes) -> tuple[_context.MLClientCtx, dict[str, Any]]:
        message = _json.loads(head.decode()) if head else {}
        pipe = self._pipe

        def emit(record: dict[str, Any]) -> None:
            pipe.emit(call, record)

        context = _context.MLClientCtx(
            message.get("run") or self._document,
            emit,
            iteration=message.get("iter"),
            parameters=message.get("parameters"),
            inputs=message.get("inputs"),
        )
        return context, message

    def _execute(self, call: int, context: _context.MLClientCtx, seed: int | None) -> dict[str, Any]:
        """Run user code and describe how it ended."""
        answer: dict[str, Any] = {}
        try:
            if self._target is None:
                raise _errors.UserError("no code is loaded")
            repeat = sys.modules.get("millrace._repeat")
            if repeat is not None:
                repeat.begin(seed)
            self._running = call
            value = self._target(context)
            if type(value).__name__ == "generator":
                from millrace import _children

                value = _children.drawn(context, value)
            self._running = 0
            packed = False
            if "mlrun" in sys.modules:
                from millrace import _mlrun

                packed = _mlrun.logs_returns(context)
                _mlrun.forward(context)
            if self._target.returns:
                results = _returned(context, value, packed)
                if results:
                    context._results.update(results)
                    answer["update"] = {"results": results}
            if context._children or context._state == "running":
                context.commit(completed=True)
        except SystemExit as exit:
            self._running = 0
            _leave_if_forked(self._pipe, exit)
            self._exited(exit, context, answer)
        except BaseException as error:
            self._running = 0
            _leave_if_forked(self._pipe, error)
            self._failed(call, error, context, answer)
        _leave_if_forked(self._pipe, None)
        repeat = sys.modules.get("millrace._repeat")
        if repeat is not None:
            repeat.end(context._emit)
        state = context._state
        answer["state"] = state if state in ("error", "aborted") else "completed"
        if state == "error" and "failure" not in answer:
            answer["failure"] = {"type": "", "message": context._error or "the code set the state to error"}
        return answer

    def _exited(self, exit: SystemExit, context: _context.MLClientCtx, answer: dict[str, Any]) -> None:
        code = exit.code
        if code is None or (isinstance(code, int) and code == 0):
            answer["exit"] = 0
            context.commit(completed=True)
            return
        if isinstance(code, int):
            answer["exit"] = int(code)
            message = "the code ended itself with sys.exit(%d)" % code
        else:
            answer["exit"] = 1
            message = _errors.text_of(exit)
            _complain(message + "\n")
        context.set_state(error=message, commit=False)
        answer["failure"] = {"type": "SystemExit", "message": message}

    def _failed(self, call: int, error: BaseException, context: _context.MLClientCtx, answer: dict[str, Any]) -> None:
        if "mlrun" in sys.modules and not isinstance(error, _errors.UserError):
            try:
                from millrace import _mlrun

                _mlrun.forward(context)
            except Exception as problem:
                _complain("millrace: what the mlrun context held is not recorded: %s\n" % problem)
        if context._children and not context._table_sent:
            from millrace import _children

            _children.send_table(context)
        if isinstance(error, KeyboardInterrupt) and self._interrupted:
            self._interrupted = False
            self._cancelled |= self._pipe.cancelled()
            if call in self._cancelled or self._pipe.relayed:
                self._cancelled.discard(call)
                context._state = "aborted"
                return
        answer["failure"] = failure = _failure(error)
        context.set_state(error=failure["message"], commit=False)


def main(argv: list[str]) -> None:
    """Serve on descriptors 3 and 4 until drained.

    argv: the host's pid and its two descriptors, for Pipe; then, in a process
    that was forked from a template and started over, the descriptor of what was
    read from the host before.
    """
    host = (int(argv[0]), int(argv[1]), int(argv[2])) if len(argv) >= 3 else None
    pipe = _wire.Pipe(3, 4, host)
    if len(argv) == 4:
        with open(int(argv[3]), "rb") as file:
            pipe._buffer = file.read()
    # User code never sees boot.py as __main__: processes it spawns would run that again.
    work(pipe, greet=len(argv) < 4, prepare=_fresh)


def _fresh() -> None:
    """Arrange an interpreter that has just started."""
    sys.modules["__main__"] = type(sys)("__main__")
    sys.modules["__main__"].__dict__["__builtins__"] = sys.modules["builtins"]
    sys.argv = [""]
    _site.prepare(_RUNTIME.rstrip("/"))


def work(pipe: _wire.Pipe, greet: bool = True, prepare: Callable[[], None] | None = None) -> None:
    """Serve on pipe until drained; prepare runs once the host knows that the worker is up."""
    worker = Worker(pipe)
    signal(SIGINT, worker.on_interrupt)
    if greet:
        hello = {
            "protocol": _wire.VERSION,
            "python": "%d.%d.%d" % sys.version_info[:3],
            "implementation": sys.implementation.name,
            "pid": posix.getpid(),
        }
        pipe.queue(_wire.pack(_wire.HELLO, 0, _json.dumps(hello).encode()))
        pipe.flush()
    if sys.stdout is not None:
        # Line by line whatever the environment says: PYTHONUNBUFFERED would have lines
        # of several processes torn.
        sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    if prepare is not None:
        prepare()
    status = 0
    try:
        worker.serve()
    except Exit as exit:
        status = exit.status
        if exit.quick:
            posix._exit(status)
    except _wire.Closed:
        pass  # the host has gone away
    except _wire.ProtocolError as error:
        _tell_host(pipe, error)
        status = 70
    if status == 0 and _site._pending and _nothing_to_finalise():
        _flush()
        posix._exit(0)
    if status:
        sys.exit(status)


def _tell_host(pipe: _wire.Pipe, error: Exception) -> None:
    try:
        failure = {"type": "ProtocolError", "message": str(error)}
        pipe.queue(_wire.pack(_wire.FAILURE, 0, _json.dumps(failure).encode()))
        pipe.flush()
    except OSError:
        pass


def _nothing_to_finalise() -> bool:
    """Say whether ending at once is the same as ending in order, which takes 2 ms.

    Only asked when user code has imported nothing but pure modules, so there
    are no threads and no exit functions; what is left to look for are files
    with unwritten data and classes with a __del__.
    """
    from _io import BufferedRandom, BufferedWriter
    from gc import get_objects

    standard = {id(getattr(stream, "buffer", None)) for stream in (sys.__stdout__, sys.__stderr__)}
    for item in get_objects():
        if isinstance(item, (BufferedRandom, BufferedWriter)):
            if id(item) not in standard and not item.closed:
                return False
        elif type(item) is type and "__del__" in item.__dict__:
            return False
    return True


def _leave_if_forked(pipe: _wire.Pipe, error: BaseException | None) -> None:
    """End a child process that user code forked and let return into the worker."""
    if not pipe.forked:
        return
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        _failure(error)
        status = 1
    _flush()
    raise Exit(status & 0xFF, quick=True)


def _returned(context: _context.MLClientCtx, value: Any, packed: bool) -> dict[str, Any]:
    """Return the results that a handler's return value stands for."""
    hints = (context._document.get("spec") or {}).get("returns")
    if hints and not packed:
        from millrace import _returns

        return _returns.log(context, value, hints)
    return {} if value is None else {"return": _values.cast(value)}


def _answer(call: int, answer: dict[str, Any], failed: bool) -> bytes:
    return _wire.pack(_wire.ANSWER, call, _json.dumps(answer).encode(), flags=_wire.FAILED if failed else 0)


def _failure(error: BaseException) -> dict[str, Any]:
    """Describe error, and show it in the log as Python would."""
    failure = _errors.failure_of(error, _RUNTIME)
    _complain(failure.get("traceback") or failure["message"] + "\n")
    return failure


def _complain(text: str) -> None:
    """Write text to standard error, whatever has become of it."""
    for stream in (sys.stderr, sys.__stderr__):
        try:
            stream.write(text)  # type: ignore[union-attr]
            stream.flush()  # type: ignore[union-attr]
            return
        except BaseException:
            continue
    try:
        posix.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _flush() -> None:
    """Flush what user code printed; a stream that it closed or replaced may fail in any way."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue
    if sys.stdout is not sys.__stdout__:
        try:
            sys.__stdout__.flush()  # type: ignore[union-attr]
        except BaseException:
            pass


def _log_size() -> int:
    """Return how far the log is written; 0 if it is not a file."""
    try:
        return posix.fstat(1).st_size
    except OSError:
        return 0
