"""How a template forks, and looks after what it forked; docs/protocol.md, "Templates"."""

from __future__ import annotations

import _socket
import fcntl
import gc
import posix
import resource
import select
import sys
from _signal import (
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGTERM,
    default_int_handler,
    set_wakeup_fd,
    signal,
)

from millrace import _json, _template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_F_SETSIG = 10  # the module has no name for it before Python 3.13
OUTDATED = 4  # exit status
_O_ASYNC = getattr(posix, "O_ASYNC", 0o20000)
_HIGH = 910  # below this are descriptors that user code may want
_MOST = 65536  # descriptors of a template, which has two for each worker
_PATIENCE = 2.0  # seconds that a host may take for its request
_TAG = b"MILLRACE_TAG"  # the variable whose place is for the entries by which a child's processes are found
_TAGGED = (b"MILLRACE_EXECUTION", b"MILLRACE_DEPLOYMENT", b"MILLRACE_REVISION")

_tag_address = _tag_size = 0


class _Child:
    """A worker that was forked, and the connection to its host."""

    def __init__(self, pid: int, host: Any, lifeline: int) -> None:
        self.pid, self.host, self.lifeline = pid, host, lifeline
        self.exited = False


class Dying:
    """While it is entered, the process is killed when standard input ends."""

    def __enter__(self) -> None:
        _kill_at_end(0, posix.getpid())

    def __exit__(self, *exception: object) -> None:
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) & ~_O_ASYNC)


def _kill_at_end(fd: int, owner: int) -> None:
    """Have the kernel kill owner, a process or -group, when the other end of the pipe fd is closed."""
    fcntl.fcntl(fd, fcntl.F_SETOWN, owner)
    fcntl.fcntl(fd, _F_SETSIG, int(SIGKILL))
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | _O_ASYNC)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):
        posix._exit(0)  # it was closed before


def high(fd: int) -> int:
    """Move fd out of the way of user code, and have it closed on exec."""
    if fd >= _HIGH:
        return fd
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:
        return fd
    posix.close(fd)
    return moved


def find_tag() -> None:
    """Find the room for the tag in what /proc shows as the environment at the start, and try to write there."""
    global _tag_address, _tag_size
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end of proc(5), which counts from pid as 1
    with open("/proc/self/environ", "rb") as file:
        entries = file.read()
    entry = (b"\0" + entries).find(b"\0" + _TAG + b"=")
    if entry < 0 or not start or len(entries) > end - start:
        raise _template.Unfit("there is no room for the tag of an execution")
    _tag_address, _tag_size = start + entry, entries.index(b"\0", entry) - entry
    try:
        _tag(entries[entry : entry + _tag_size])
    except OSError as error:
        raise _template.Unfit("the tag of an execution cannot be written: %s" % error) from None


def _tag(entry: bytes) -> None:
    """Show entry in /proc/self/environ, and in that of what this process forks."""
    if len(entry) > _tag_size:
        raise ValueError("the tag is longer than %d bytes" % _tag_size)
    memory = posix.open("/proc/self/mem", posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.pwrite(memory, entry + bytes(_tag_size - len(entry)), _tag_address)
    finally:
        posix.close(memory)


def serve(path: str, verdict: int) -> None:
    """Say that the template is ready, and fork a worker for each request.

    Returns once no worker is left after standard input has ended; ends with status
    OUTDATED when packages were installed or removed.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[0] != resource.RLIM_INFINITY:
        most = _MOST if limits[1] == resource.RLIM_INFINITY else min(limits[1], _MOST)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], most), limits[1]))
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    server.bind(path)
    posix.chmod(path, 0o600)
    server.listen(128)
    woken, waker = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    signal(SIGCHLD, lambda _number, _frame: None)
    signal(SIGINT, SIG_IGN)
    set_wakeup_fd(waker, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    posix.write(verdict, b"ready\n")
    posix.close(verdict)
    children: dict[int, _Child] = {}  # by the descriptor of the host's connection
    poll = select.poll()
    poll.register(server.fileno(), select.POLLIN)
    poll.register(woken, select.POLLIN)
    poll.register(0, select.POLLIN)
    retired = outdated = False
    while not retired or children:
        for fd, _ in poll.poll():
            if fd == server.fileno() and not retired:
                outdated = bool(_template.stale())
                _accept(server, (server.fileno(), woken, waker), children, poll, limits)
            elif fd == woken:
                posix.read(woken, 4096)
            if (fd == 0 or outdated) and not retired:
                retired = True
                poll.unregister(0)
                poll.unregister(server.fileno())
                server.close()
                try:
                    posix.unlink(path)
                except OSError:
                    pass
            elif fd in children:
                _reap(children.pop(fd), poll)
        _look(children)
    if outdated:
        sys.exit(OUTDATED)


def _accept(server: Any, own: tuple[int, ...], children: dict[int, _Child], poll: Any, limits: tuple[int, int]) -> None:
    fd, _ = server._accept()
    host = _socket.socket(fileno=fd)
    fds: list[int] = []
    try:
        host.settimeout(_PATIENCE)
        uid = int.from_bytes(host.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if uid != posix.getuid():
            raise ValueError("the request is another user's")
        request = _receive(host, fds)
        environ = dict(entry.encode("utf-8").partition(b"=")[::2] for entry in request["env"])
        reason = _template.stale() or _template.refusal(environ)
        if reason:
            raise ValueError(reason)
        pid = posix.fork()
    except (OSError, ValueError, KeyError) as error:
        try:
            host.sendall(("refused %s\n" % str(error).replace("\n", " ")).encode("utf-8", "backslashreplace"))
        except OSError:
            pass
        host.close()
        for one in fds:
            posix.close(one)
        return
    if pid == 0:
        status = 70
        try:
            for child in children.values():
                child.host.close()
                posix.close(child.lifeline)
            for one in own:
                posix.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            _become(host, request, environ, fds)
            status = 0
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        except BaseException as error:
            posix.write(2, ("millrace: the forked worker failed: %r\n" % error).encode("utf-8", "backslashreplace"))
        _end(status)
    for one in fds[:4]:
        posix.close(one)
    children[host.fileno()] = _Child(pid, host, fds[4])
    poll.register(host.fileno(), select.POLLIN)


def _receive(host: Any, fds: list[int]) -> dict[str, Any]:
    """Read one request: a length of four bytes, JSON, and descriptors with its first byte."""
    data, ancillary, _, _ = host.recvmsg(
        65536, _socket.CMSG_SPACE(4 * _template._DESCRIPTORS), _socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, raw in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for at in range(0, len(raw) - 3, 4):
                fds.append(int.from_bytes(raw[at : at + 4], sys.byteorder))
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "little"):
        more = host.recv(65536)
        if not more or len(data) > _template._MAX_REQUEST:
            raise ValueError("the request is not whole")
        data += more
    if len(fds) != _template._DESCRIPTORS:
        raise ValueError("the request has %d descriptors" % len(fds))
    request: dict[str, Any] = _json.loads(data[4:].decode())
    return request


def _become(host: Any, request: dict[str, Any], environ: dict[bytes, bytes], fds: list[int]) -> None:
    """Make this process, just forked, what a fresh worker is, and work."""
    set_wakeup_fd(-1)
    for number in (SIGCHLD, SIGTERM):
        signal(number, SIG_DFL)
    signal(SIGPIPE, SIG_IGN)
    signal(SIGINT, default_int_handler)
    posix.setsid()
    lifeline = high(fds[4])  # like the pipes of the worker
    _kill_at_end(lifeline, -posix.getpid())
    _tag(b"\0".join([name + b"=" + environ[name] for name in _TAGGED if name in environ]))
    _environment(_template.completed(environ))
    posix.umask(request["umask"])
    posix.chdir(request["dir"])
    null = posix.open("/dev/null", posix.O_RDONLY)
    connection = high(host.detach())
    low = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 20) for one in (null, fds[2], fds[3], fds[0], fds[1])]
    for target, one in enumerate(low):
        posix.dup2(one, target)
    posix.set_blocking(3, True)  # the host's own ends are others
    posix.set_blocking(4, True)
    for one in {*low, null, *fds[:4]} - {lifeline, 0, 1, 2, 3, 4}:
        try:
            posix.close(one)
        except OSError:
            pass
    _template.reseed()
    posix.write(connection, b"ready %d\n" % posix.getpid())
    posix.close(connection)
    _template.work((request["host"][0], request["host"][1], request["host"][2]))


def _environment(environ: dict[bytes, bytes]) -> None:
    """Replace the environment, of C and of Python."""
    for key in list(posix.environ):
        posix.unsetenv(key)
    tables = [posix.environ]
    if "os" in sys.modules:
        tables.append(sys.modules["os"].environ._data)
    for key, value in environ.items():
        posix.putenv(key, value)
    for table in tables:
        table.clear()
        table.update(environ)


def start_over(pipe: Any, unread: bytes) -> None:
    """Execute a fresh interpreter in place of this process; it is given what was read from the host."""
    if len(unread) <= 65536:  # what a pipe holds
        readable, writable = posix.pipe()
        posix.write(writable, unread)
        posix.close(writable)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            file.write(unread)
            file.flush()
            readable = posix.dup(file.fileno())
        posix.lseek(readable, 0, 0)  # from the beginning
    posix.set_inheritable(readable, True)
    read_fd, write_fd = pipe._read_fd, pipe._write_fd
    if readable in (3, 4):
        readable = fcntl.fcntl(readable, fcntl.F_DUPFD, 20)
    posix.dup2(read_fd, 3)
    posix.dup2(write_fd, 4)
    host = pipe._host
    argv = [sys.executable, "-S", _template._RUNTIME + "/boot.py", *(str(number) for number in host), str(readable)]
    posix.execv(sys.executable, argv)


def _end(status: int) -> None:
    """End a child as an interpreter ends, without going back to the template's loop."""
    from millrace import _worker

    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
        if "atexit" in sys.modules:
            sys.modules["atexit"]._run_exitfuncs()
    except BaseException as error:
        posix.write(2, ("millrace: at the end of the process: %r\n" % error).encode("utf-8", "backslashreplace"))
    _worker._flush()
    posix._exit(status & 0xFF)


def _look(children: dict[int, _Child]) -> None:
    """Tell hosts whose worker has ended; it is not reaped before they know."""
    for child in children.values():
        if child.exited:
            continue
        if posix.waitid(posix.P_PID, child.pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT) is not None:
            child.exited = True
            try:
                child.host.sendall(b"exited\n")
            except OSError:
                pass


def _reap(child: _Child, poll: Any) -> None:
    """End the group of a worker whose end the host knows of, or whose host has gone, and say how it ended."""
    try:
        posix.kill(-child.pid, SIGKILL)
    except OSError:
        pass
    poll.unregister(child.host.fileno())
    _, status, usage = posix.wait4(child.pid, 0)
    text = "status %d %d %d %d\n" % (status, usage.ru_utime * 1e6, usage.ru_stime * 1e6, usage.ru_maxrss)
    try:
        child.host.sendall(text.encode())
    except OSError:
        pass
    child.host.close()
    posix.close(child.lifeline)
