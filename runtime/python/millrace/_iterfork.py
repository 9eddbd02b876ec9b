"""Calls that are executed by forks of the worker, so that a crash costs one call.

Imported only when the host asks for it. A fork writes its frames to a pipe of its
own; the worker passes on whole ones, so that the end of a process in the middle
of a frame breaks nothing. The fork for the next call is made while one executes,
and waits for it; a fork that has answered is waited for while the next one
executes.
"""

from __future__ import annotations

import gc
import posix
import sys
from _signal import SIGINT

from millrace import _wire, _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ_SIZE = 4 << 10  # what most calls and answers fit in
_SEEK_CUR = 1
_PREFIX = 8  # bytes before a call: how long it is, and its number
_ROUNDS = 100  # of a rehearsal: what an instruction needs to be specialised, by Python 3.11
# A fork that waits: its id, what its call is written to, and what it says is read from.
_spare: tuple[int, int, int] | None = None
_ending = 0  # a fork that has answered and is not waited for yet


def possible() -> bool:
    """Say whether this process can be forked: a fork has none of its other threads, but their locks."""
    try:
        threads = len(posix.listdir("/proc/self/task"))
    except OSError:
        from _thread import _count

        threads = 1 + _count()
    if threads > 1:
        return False
    _worker._flush()  # the worker itself writes nothing from now on that it does not flush
    return True


def freeze() -> None:
    """Keep the collector of forks from what there is now, which would be copied page by page."""
    gc.collect()
    gc.freeze()


def rehearse(worker: _worker.Worker) -> None:
    """Execute calls of a function that does nothing.

    Calls change the interpreter itself: they specialise bytecode and fill its caches.
    Where that is done already, a fork does not need its own copies of those pages.
    """
    from millrace import _context, _json, _load

    if "mlrun" in sys.modules:
        return  # whose context is not to see calls that are none
    message: dict[str, Any] = {"iter": 1, "parameters": {"value": 1}, "marks": worker._marks is not None}
    message["run"] = {"metadata": {"name": "nothing"}, "spec": {}}  # the task's has outputs, and packagers of its own
    head = _json.dumps(message).encode()
    target, alone, pipe = worker._target, worker._alone, worker._pipe

    def nothing(context: Any, value: int = 0) -> None:
        context.log_result("value", value)

    before = pipe.divert(posix.open("/dev/null", posix.O_WRONLY | posix.O_CLOEXEC))
    worker._target = _load.Handler("nothing", nothing)
    try:
        for number in range(_ROUNDS):
            pipe.queue(worker._call(number, head))
            pipe.flush()
    finally:
        worker._target, worker._alone = target, alone
        posix.close(pipe.divert(before))
        _context.set_current(None)


def call(worker: _worker.Worker, number: int, head: bytes) -> bytes:
    """Execute one call in a fork, passing on what it emits, and return its answer."""
    global _spare
    pipe = worker._pipe
    if worker._interrupted:
        worker._interrupted = False
        worker._cancelled |= pipe.cancelled()
    worker._alone = True
    if number in worker._cancelled:
        worker._cancelled.discard(number)
        return _worker._answer(number, {"state": "aborted"}, failed=True)
    pipe.flush()
    start = _log_position()
    process, calls, frames = _spare or _prepare(worker)
    worker._forked = (number, process)
    try:
        _write(calls, (len(head) | number << 32).to_bytes(_PREFIX, "little") + head)
        posix.close(calls)
        if worker._interrupted:  # before it was known whom to tell
            interrupt(worker)
        _spare = _prepare(worker)
        answer = _pass_on(pipe, frames)
        status = _reap(process, answer is not None)
    finally:
        posix.close(frames)
        worker._forked = None
    worker._interrupted = False
    cancelled = number in worker._cancelled
    worker._cancelled.discard(number)
    if answer is not None:
        return answer
    if cancelled:
        return _worker._answer(number, {"state": "aborted"}, failed=True)
    message = "the process %s before the iteration ended" % _ended(status)
    _worker._complain("millrace: %s\n" % message)
    said: dict[str, Any] = {"state": "error", "failure": {"type": "ProcessError", "message": message}}
    said["log"] = [start, _worker._log_size()]
    return _worker._answer(number, said, failed=True)


def interrupt(worker: _worker.Worker) -> None:
    """Interrupt the fork if it is its call that was cancelled."""
    if worker._forked is None:
        return
    number, process = worker._forked
    worker._cancelled |= worker._pipe.cancelled()
    if number in worker._cancelled:
        try:
            posix.kill(process, SIGINT)
        except OSError:
            pass  # it is gone


def _prepare(worker: _worker.Worker) -> tuple[int, int, int]:
    """Fork a process that waits for its call."""
    pipe = worker._pipe
    calls, call = posix.pipe()
    frames, answer = posix.pipe()
    pipe.relaying = True
    process = posix.fork()
    if process == 0:
        posix.close(call)
        posix.close(frames)
        _be(worker, calls, answer)
    pipe.relaying = False
    posix.close(calls)
    posix.close(answer)
    return process, call, frames


def _be(worker: _worker.Worker, calls: int, frames: int) -> None:
    """Be the fork: execute the call that comes, if one does. Never returns."""
    status = 1
    try:
        pipe = worker._pipe
        pipe.relay(frames)
        worker._fork, worker._forked = False, None
        message = _read(calls, _PREFIX)
        if not message:
            return
        missing = _PREFIX + int.from_bytes(message[:4], "little") - len(message)
        if missing:
            message += _read(calls, missing)
        posix.close(calls)
        pipe.queue(worker._call(int.from_bytes(message[4:_PREFIX], "little"), message[_PREFIX:]))
        pipe.flush()
        posix._exit(0)  # what the call wrote is flushed
    except _worker.Exit as exit:
        status = exit.status
    except BaseException as error:
        _worker._complain("millrace: the answer of a call cannot be sent: %s\n" % error)
    finally:
        _worker._flush()
        posix._exit(status)


def _read(fd: int, size: int) -> bytes:
    """Return what comes from fd, at least size bytes of it; nothing if that is not to be had."""
    data = posix.read(fd, max(size, _READ_SIZE))
    if len(data) >= size:
        return data
    parts, have = [data], len(data)
    while data and have < size:
        data = posix.read(fd, min(size - have, 1 << 20))
        parts.append(data)
        have += len(data)
    return b"".join(parts) if data else b""


def _write(fd: int, data: bytes) -> None:
    try:
        written = posix.write(fd, data)
        while written < len(data):
            data = data[written:]
            written = posix.write(fd, data)
    except BrokenPipeError:
        pass  # it was killed; its end says so


def _reap(process: int, answered: bool) -> int:
    """Return how process ended; one that has answered ends while the next call goes on."""
    global _ending
    if _ending:
        posix.waitpid(_ending, 0)
        _ending = 0
    if answered:
        _ending = process
        return 0
    return posix.waitpid(process, 0)[1]


def _pass_on(pipe: _wire.Pipe, read: int) -> bytes | None:
    """Pass on the whole frames that come from read, and return the last ones, of which one is the answer.

    None if the fork ended without one.
    """
    data = posix.read(read, _READ_SIZE)
    while data:
        end, missing = 0, 0
        while not missing:
            have = len(data) - end
            if have < _wire.HEADER:
                missing = _wire.HEADER - have
                break
            prefix = int.from_bytes(data[end : end + 5], "little")
            missing = max(_wire.HEADER + (prefix & 0xFFFFFFFF) - have, 0)
            if not missing:
                end += _wire.HEADER + (prefix & 0xFFFFFFFF)
                if prefix >> 32 == _wire.ANSWER:
                    return data[:end]
        if end:
            pipe.queue(data[:end])
            pipe.flush()
            data = data[end:]
        more = _read(read, missing) if data else posix.read(read, _READ_SIZE)
        if not more:
            return None
        data += more
    return None


def _log_position() -> int:
    """Return the end of what this worker and its forks have written to the log; 0 if it is not a file."""
    try:
        return posix.lseek(1, 0, _SEEK_CUR)
    except OSError:
        return 0


def _ended(status: int) -> str:
    """Say in words what waitpid said."""
    if posix.WIFSIGNALED(status):
        from signal import Signals

        number = posix.WTERMSIG(status)
        try:
            return "was killed by %s" % Signals(number).name
        except ValueError:
            return "was killed by signal %d" % number
    return "exited with status %d" % posix.WEXITSTATUS(status)
