"""Frames and the two pipes; docs/protocol.md is the specification."""

from __future__ import annotations

import posix
import sys
from _thread import RLock

from millrace import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
HEADER = 16
MAX_FRAME = 64 << 20  # bytes after the header
# What one read asks for: what a pipe usually holds. Allocators take more than 128 KiB from the
# kernel anew each time, which costs ten times what the read of a small frame does.
READ_SIZE = 64 << 10
LARGE = 256 << 10  # bytes of a frame that is worth a copy less

HELLO, LOAD, LOADED, CALL, ANSWER, EMIT, CANCEL, DRAIN, FAILURE, EVENT, RESPONSE, PIECE, HOLD, GO_ON = range(1, 15)
NOTE = 16
FAILED = 0x01  # flag of an answer: the call did not complete
OPTIONAL = 0x80  # flag of any frame: ignore it if its type is unknown

# A write up to this size is never split by the kernel.
_ATOMIC = 4096

# Bytes of a large frame for which memory is kept: what is allocated for each comes from the
# kernel page by page.
_KEPT = 4 << 20


class ProtocolError(Exception):
    """The other side broke the protocol; there is no way to go on."""


class Closed(Exception):
    """The host closed its end: it has gone away."""


def pack(kind: int, call: int, head: bytes, body: bytes = b"", flags: int = 0) -> bytes:
    """Return one frame."""
    return _before(kind, call, head, len(body), flags) + body


def parts(kind: int, call: int, head: bytes, body: bytes, flags: int = 0) -> list[bytes]:
    """Return one frame as what is to be written one after the other; a large body is not copied."""
    before = _before(kind, call, head, len(body), flags)
    return [before, body] if len(body) > LARGE else [before + body]


def _before(kind: int, call: int, head: bytes, length: int, flags: int) -> bytes:
    size = len(head)
    total = size + length
    if total > MAX_FRAME:
        raise ValueError("%d bytes are more than the %d that one message may have" % (total, MAX_FRAME))
    prefix = total | kind << 32 | flags << 40 | call << 64 | size << 96
    return prefix.to_bytes(16, "little") + head


class Pipe:
    """Both directions. Only the main thread reads; any thread may write.

    User code may close every descriptor it can find, so each use of a pipe that
    finds it gone or replaced opens it again through the host's own descriptor.
    A process forked from the worker never writes: two writers would mix frames.
    """

    def __init__(self, read_fd: int, write_fd: int, host: tuple[int, int, int] | None = None) -> None:
        self._host = host
        self._read_fd = _move_away(read_fd)
        self._write_fd = _move_away(write_fd)
        self._read_id = _identity(self._read_fd)
        self._write_id = _identity(self._write_fd)
        self._lock = RLock()
        self._pending: list[bytes] = []  # guarded by _lock
        self._large = False  # there is a part in it that is not to be copied; guarded by _lock
        self.forked = False
        self.relaying = False  # the worker forks a process to execute one call, which writes to the worker
        self.relayed = False  # this process is one
        self._warned = False
        posix.register_at_fork(after_in_child=self._after_fork)
        # What was read and is not a whole frame yet, from _start on.
        self._buffer = b""
        self._start = 0
        self._space = bytearray()  # of large frames
        self._signals: frozenset[int] = frozenset()  # all that can be blocked, once they were
        self._mask: Any
        self._block: int
        self._restore: int

    def _after_fork(self) -> None:
        if self.relaying:
            return
        self.forked = True
        self._lock = RLock()
        self._pending, self._large = [], False
        for fd, identity in ((self._read_fd, self._read_id), (self._write_fd, self._write_id)):
            if _identity(fd) == identity:
                posix.close(fd)

    def relay(self, fd: int) -> None:
        """In a process that was forked while relaying: write to fd, which the worker reads, and read nothing."""
        for own in (self._read_fd, self._write_fd):
            posix.close(own)
        self._write_fd = _move_away(fd)
        self._write_id = _identity(self._write_fd)
        self._host = None
        self.relaying, self.relayed = False, True

    def divert(self, fd: int) -> int:
        """Write to fd from now on; return what was written to before."""
        before, self._write_fd = self._write_fd, fd
        self._write_id = _identity(fd)
        return before

    # -- reading

    def buffered(self) -> bool:
        """Say whether a whole frame can be taken without reading."""
        available = len(self._buffer) - self._start
        if available < HEADER:
            return False
        size = int.from_bytes(self._buffer[self._start : self._start + 4], "little")
        return available >= HEADER + size

    def next(self) -> tuple[int, int, int, bytes, bytes]:
        """Return (type, flags, call, head, body) of the next frame.

        What was queued for writing leaves before this blocks.
        """
        while True:
            start, buffer = self._start, self._buffer
            available = len(buffer) - start
            wanted = HEADER
            if available >= HEADER:
                prefix = int.from_bytes(buffer[start : start + HEADER], "little")
                size = prefix & 0xFFFFFFFF
                if size > MAX_FRAME:
                    raise ProtocolError("a frame of %d bytes is over the limit of %d" % (size, MAX_FRAME))
                wanted = HEADER + size
                if available >= wanted:
                    head_size = prefix >> 96
                    if head_size > size or prefix >> 48 & 0xFFFF:
                        raise ProtocolError("a frame's header is not consistent")
                    self._start = end = start + wanted
                    head = start + HEADER
                    body = head + head_size
                    return (
                        prefix >> 32 & 0xFF,
                        prefix >> 40 & 0xFF,
                        prefix >> 64 & 0xFFFFFFFF,
                        buffer[head:body],
                        buffer[body:end],
                    )
            if self._pending:
                self.flush()
            if wanted > LARGE and available >= HEADER:
                frame = self._next_large(prefix)
                if frame is not None:
                    return frame
            self._fill(wanted)

    def _next_large(self, prefix: int) -> tuple[int, int, int, bytes, bytes] | None:
        """Read the rest of a large frame so that its body is copied once; None if its head is not there yet."""
        size, head_size = prefix & 0xFFFFFFFF, prefix >> 96
        buffer, head = self._buffer, self._start + HEADER
        if head_size > size or prefix >> 48 & 0xFFFF or len(buffer) - head < head_size:
            return None
        length = size - head_size
        space = self._space
        if len(space) < length:
            space = bytearray(length)
            if length <= _KEPT:
                self._space = space
        view = memoryview(space)
        have = len(buffer) - head - head_size
        view[:have] = buffer[head + head_size :]
        while have < length:
            self._check_read()
            count = posix.readv(self._read_fd, [view[have:length]])
            if not count:
                raise ProtocolError("the host's end closed within a frame")
            have += count
        self._buffer, self._start = b"", 0
        return (
            prefix >> 32 & 0xFF,
            prefix >> 40 & 0xFF,
            prefix >> 64 & 0xFFFFFFFF,
            buffer[head : head + head_size],
            bytes(view[:length]),
        )

    def rest(self) -> tuple[bytes, int]:
        """Return what was read, and where in it what was not taken yet begins."""
        return self._buffer, self._start

    def leave(self, at: int) -> None:
        """Say that what was read is taken up to at."""
        self._start = at

    def fill(self) -> None:
        """Read until there is a whole frame, or the header of a large one."""
        while True:
            available = len(self._buffer) - self._start
            wanted = HEADER
            if available >= HEADER:
                size = int.from_bytes(self._buffer[self._start : self._start + 4], "little")
                if size > LARGE:
                    return  # next reads it, or refuses it
                wanted = HEADER + size
            if available >= wanted:
                return
            self._fill(wanted)

    def _fill(self, wanted: int) -> None:
        """Read until the buffer holds wanted bytes, in as few reads as possible."""
        parts = [self._buffer[self._start :]]
        have = len(parts[0])
        while have < wanted:
            data = self._read(max(READ_SIZE, wanted - have))
            if not data:
                if have:
                    raise ProtocolError("the host's end closed within a frame")
                raise Closed
            parts.append(data)
            have += len(data)
        self._buffer = b"".join(parts)
        self._start = 0

    def _read(self, size: int) -> bytes:
        self._check_read()
        return posix.read(self._read_fd, size)

    def _check_read(self) -> None:
        """Open the reading end again if user code closed it."""
        if _identity(self._read_fd) != self._read_id:
            self._read_fd = self._reopen(1, self._read_id, posix.O_RDONLY)

    def descriptor(self) -> int:
        """Return what a loop of its own can wait on; read_once and buffered go with it."""
        self._check_read()
        return self._read_fd

    def read_once(self) -> None:
        """Read what there is, waiting only if that is nothing."""
        data = self._read(READ_SIZE)
        if not data:
            raise Closed
        self._buffer = self._buffer[self._start :] + data
        self._start = 0

    def cancelled(self) -> set[int]:
        """Return the calls whose cancel frames have arrived behind the current frame.

        Never blocks. The frames stay in the buffer, where their turn comes.
        """
        if self.relayed:
            return set()
        self._check_read()
        posix.set_blocking(self._read_fd, False)
        try:
            while True:
                data = self._read(READ_SIZE)
                if not data:
                    break
                self._buffer = self._buffer[self._start :] + data
                self._start = 0
        except BlockingIOError:
            pass
        finally:
            posix.set_blocking(self._read_fd, True)
        calls = set()
        at = self._start
        while at + HEADER <= len(self._buffer):
            prefix = int.from_bytes(self._buffer[at : at + HEADER], "little")
            if prefix >> 32 & 0xFF == CANCEL:
                calls.add(prefix >> 64 & 0xFFFFFFFF)
            at += HEADER + (prefix & 0xFFFFFFFF)
        return calls

    # -- writing

    def queue(self, frame: bytes) -> None:
        """Write frame with the next flush."""
        with self._lock:
            self._pending.append(frame)

    def queue_parts(self, frame: list[bytes]) -> None:
        """Write the parts of a frame with the next flush."""
        with self._lock:
            self._large = self._large or len(frame) > 1
            self._pending += frame

    def emit(self, call: int, record: dict[str, Any]) -> None:
        """Send one emission of a call now: when this returns, a killed worker has not lost it."""
        if self.forked:
            if not self._warned:
                self._warned = True
                sys.stderr.write("millrace: what a forked process logs is not recorded; log it in the parent\n")
            return
        frame = pack(EMIT, call, _json.dumps(record).encode())
        with self._lock:
            self._pending.append(frame)
            self.flush()

    def write(self, frames: list[bytes]) -> None:
        """Write frames, and what is queued before them."""
        with self._lock:
            self._pending += frames
            self.flush()

    def flush(self) -> None:
        """Write what is queued."""
        with self._lock:
            if not self._pending or self.forked:
                return
            pending, large = self._pending, self._large
            self._pending, self._large = [], False
            if _identity(self._write_fd) != self._write_id:
                self._write_fd = self._reopen(2, self._write_id, posix.O_WRONLY)
            if large:
                self._write_masked(pending)
                return
            data = pending[0] if len(pending) == 1 else b"".join(pending)
            if len(data) <= _ATOMIC:
                posix.write(self._write_fd, data)
            else:
                self._write_masked([data])

    def _write_masked(self, parts: list[bytes]) -> None:
        """Write a large frame whole: a signal handler that raises in the middle would cut it."""
        if not self._signals:
            import _signal

            self._signals = frozenset(_signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP})
            self._mask, self._block, self._restore = _signal.pthread_sigmask, _signal.SIG_BLOCK, _signal.SIG_SETMASK
        before = self._mask(self._block, self._signals)
        try:
            for data in parts:
                view = memoryview(data)
                while view:
                    view = view[posix.write(self._write_fd, view) :]
        finally:
            self._mask(self._restore, before)

    def _reopen(self, which: int, identity: tuple[int, int] | None, mode: int) -> int:
        """Open a pipe that user code closed, through the host's descriptor of it."""
        if self._host is not None:
            try:
                fd = posix.open("/proc/%d/fd/%d" % (self._host[0], self._host[which]), mode | posix.O_CLOEXEC)
            except OSError:
                pass
            else:
                if _identity(fd) == identity:
                    return _move_away(fd)
                posix.close(fd)
        text = b"millrace: the function closed the file descriptors of its worker; the call cannot be answered\n"
        try:
            posix.write(2, text)
        except OSError:
            pass
        posix._exit(71)


def _identity(fd: int) -> tuple[int, int] | None:
    """Say which file fd is, None when it is closed."""
    try:
        stat = posix.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _move_away(fd: int) -> int:
    """Move fd out of the range that programs count through, and close it on exec."""
    for number in (900, 200, 50):
        number += fd % 10
        try:
            posix.dup2(fd, number, False)
        except OSError:  # beyond the limit of open files
            continue
        if number != fd:
            posix.close(fd)
        return number
    posix.set_inheritable(fd, False)
    return fd
