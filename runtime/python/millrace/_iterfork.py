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
from _signal import SIGINT, SIGKILL

from millrace import _site, _wire, _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_PR_SET_PDEATHSIG = 1
_READ_SIZE = 64 << 10
_die_with_worker: Callable[[], Any] | None = None
_spare: _Process | None = None
_ending = 0  # a fork that has answered and is not waited for yet


class _Process:
    """A fork that waits for its call."""

    def __init__(self, pid: int, calls: int, frames: int) -> None:
        self.pid = pid
        self.calls = calls  # where its call is written to
        self.frames = frames  # where what it says is read from


def possible() -> bool:
    """Say whether this process can be forked: a fork has none of its other threads, but their locks."""
    global _die_with_worker
    try:
        threads = len(posix.listdir("/proc/self/task"))
    except OSError:
        from _thread import _count

        threads = 1 + _count()
    if threads > 1:
        return False
    if sys.platform == "linux":
        try:  # without the package ctypes, whose import makes every fork dearer
            native: Any = _site._import("_ctypes")
            prctl = native.dlsym(native.dlopen(None, 0), "prctl")
            _die_with_worker = lambda: native.call_function(prctl, (_PR_SET_PDEATHSIG, int(SIGKILL)))  # noqa: E731
        except (ImportError, OSError, AttributeError):
            pass  # a fork then outlives a killed worker until its call ends
    # What there is now would be copied page by page if a fork's collector looked at it.
    gc.collect()
    gc.freeze()
    return True


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
    start = _worker._log_size()
    process = _spare or _prepare(worker)
    worker._forked = (number, process.pid)
    try:
        _write(process.calls, number.to_bytes(4, "little") + head)
        posix.close(process.calls)
        if worker._interrupted:  # before it was known whom to tell
            interrupt(worker)
        _spare = _prepare(worker)
        answer = _pass_on(pipe, process.frames)
        status = _reap(process.pid, answer is not None)
    finally:
        posix.close(process.frames)
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


def _prepare(worker: _worker.Worker) -> _Process:
    """Fork a process that waits for its call."""
    _worker._flush()
    calls, frames = posix.pipe(), posix.pipe()
    parent = posix.getpid()
    pid = posix.fork()
    if pid == 0:
        posix.close(calls[1])
        posix.close(frames[0])
        _be(worker, calls[0], frames[1], parent)
    posix.close(calls[0])
    posix.close(frames[1])
    return _Process(pid, calls[1], frames[0])


def _be(worker: _worker.Worker, calls: int, frames: int, parent: int) -> None:
    """Be the fork: execute the call that comes, if one does. Never returns."""
    status = 1
    try:
        if _die_with_worker is not None:
            _die_with_worker()
            if posix.getppid() != parent:
                return
        worker._fork, worker._forked = False, None
        message = _read(calls)
        if not message:
            return
        pipe = worker._pipe
        pipe.relay(frames)
        pipe.queue(worker._call(int.from_bytes(message[:4], "little"), message[4:]))
        pipe.flush()
        status = 0
    except _worker.Exit as exit:
        status = exit.status
    except BaseException as error:
        _worker._complain("millrace: the answer of a call cannot be sent: %s\n" % error)
    finally:
        _worker._flush()
        posix._exit(status)


def _read(fd: int) -> bytes:
    """Return all that comes from fd."""
    data = part = posix.read(fd, _READ_SIZE)
    while part:
        part = posix.read(fd, _READ_SIZE)
        data += part
    posix.close(fd)
    return data


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[posix.write(fd, view) :]
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
    """Pass on the whole frames that come from read; return the answer, None if the fork ended without one."""
    buffer = b""
    while True:
        data = posix.read(read, _READ_SIZE)
        if not data:
            return None
        buffer += data
        while len(buffer) >= _wire.HEADER:
            size = _wire.HEADER + int.from_bytes(buffer[:4], "little")
            if len(buffer) < size:
                break
            frame, buffer = buffer[:size], buffer[size:]
            if frame[4] == _wire.ANSWER:
                return frame
            pipe.queue(frame)
        pipe.flush()


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
