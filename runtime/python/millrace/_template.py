"""A template: an interpreter that has imported what workers need, and forks them on demand.

docs/protocol.md, "Templates", is the specification. Whatever cannot be promised
for a forked process is found out before one is made: a template whose imports
left threads, sockets or shared memory never listens, a request whose
interpreter variables differ is refused, and a child whose imports would have
come out differently becomes a fresh interpreter before it loads user code.
"""

from __future__ import annotations

import posix
import sys

from millrace import _errors, _json, _site, _wire, _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RUNTIME = __file__.rpartition("/")[0].rpartition("/")[0]
_MAX_REQUEST = 16 << 20  # bytes
_DESCRIPTORS = 5  # of a request: the worker's two pipe ends, output, errors, lifeline
# What an interpreter, its C library or a native library reads before anybody can see it read.
_EARLY = ("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_")
_EARLY_NAMES = ("LANG", "LANGUAGE", "TZ")
_NATIVE = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "NUMEXPR_", "VECLIB_", "CUDA_", "NVIDIA_")
# Importing these starts what a fork does not copy, or reads what belongs to one run.
_FORBIDDEN = frozenset("mpi4py tensorflow jax polars gevent eventlet horovod pyspark mlrun".split())

_given: dict[bytes, bytes] = {}  # the environment that the template was started with
_environ: dict[bytes, bytes] = {}  # the same at the imports: the interpreter may have set LC_CTYPE in it
_reads: set[bytes] = set()  # the variables that Python code read during the imports
_read_all = False
_preloaded: frozenset[str] = frozenset()
_folders: dict[str, int] = {}  # of sys.path, when they were changed last as of the imports


class Unfit(Exception):
    """The imports cannot be forked; the text says why."""


class _Recorder(dict):  # type: ignore[type-arg]
    """The data of os.environ while modules are imported."""

    def __getitem__(self, key: bytes) -> bytes:
        _reads.add(key)
        return dict.__getitem__(self, key)

    def __iter__(self) -> Any:
        global _read_all
        _read_all = True
        return dict.__iter__(self)


def main(argv: list[str]) -> None:
    """Import, listen and fork. argv: the path of the socket. Descriptor 4 is a file with the modules to import.

    The first line on descriptor 3 is "ready" or why there is no template. The
    template retires when standard input ends.
    """
    from millrace import _fork

    with open(4, "rb") as file:
        names = file.read().decode().split("\n")
    verdict = _fork.high(3)
    inherited = frozenset(posix.listdir("/proc/self/fd"))
    try:
        with _fork.Dying():
            _import([name for name in names if name])
            _check(inherited)
            _fork.find_tag()
    except Unfit as unfit:
        posix.write(verdict, ("unfit: %s\n" % str(unfit).replace("\n", " ")).encode("utf-8", "backslashreplace"))
        sys.exit(3)
    _fork.serve(argv[0], verdict)


def _import(names: list[str]) -> None:
    """Import what the template is for; a module that is not there is left out."""
    global _given, _environ, _preloaded, _folders
    with open("/proc/self/environ", "rb") as file:
        _given = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0") if entry)
    _environ = dict(posix.environ)
    sys.modules["__main__"] = type(sys)("__main__")
    sys.modules["__main__"].__dict__["__builtins__"] = sys.modules["builtins"]
    sys.argv = [""]
    import os  # before _site.prepare: importing it sets up nothing else

    environ: Any = os.environ
    data = environ._data
    environ._data = _Recorder(data)
    try:
        _site.prepare(_RUNTIME)
        _site.complete()
        for name in names:
            if name.partition(".")[0] in _FORBIDDEN:
                continue  # the child imports it
            try:
                __import__(name)
            except ImportError:
                continue
            except Exception as error:
                raise Unfit("import %s: %s" % (name, _errors.text_of(error))) from None
    finally:
        environ._data = data
    for name in _FORBIDDEN:
        if name in sys.modules:
            raise Unfit("%s was imported and cannot be used in a forked process" % name)
    _folders = {folder: _changed(folder) for folder in sys.path}
    _preloaded = frozenset(name.partition(".")[0] for name in sys.modules) - {"__main__", "millrace"}


def _check(inherited: frozenset[str]) -> None:
    """Refuse what a child would share with its siblings, or would miss.

    inherited are the descriptors that were there before the imports.
    """
    _worker._flush()
    written = posix.fstat(1).st_size
    if written:
        raise Unfit("the imports wrote %d bytes, which belong into the log of each run" % written)
    pid = posix.fork()  # native pools that can be forked end their threads before it
    if pid == 0:
        posix._exit(0)
    posix.waitpid(pid, 0)
    threads = len(posix.listdir("/proc/self/task"))
    if threads > 1:
        raise Unfit("the imports left %d thread%s" % (threads - 1, "s" if threads > 2 else ""))
    for name in posix.listdir("/proc/self/fd"):
        if name not in inherited:
            try:
                target = posix.readlink("/proc/self/fd/" + name)
            except OSError:  # the one that listed the folder
                continue
            if target not in ("/dev/null", "/dev/urandom", "/dev/zero"):
                raise Unfit("the imports left %s open" % target)
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.split(None, 2)[1] in ("rw-s", "rwxs", "-w-s"):
                raise Unfit("the imports left memory that children would share: %s" % line.split()[-1])


def _changed(folder: str) -> int:
    try:
        return posix.stat(folder).st_mtime_ns
    except OSError:
        return 0


def stale() -> str:
    """Say which folder of modules has changed since the imports; "" if none has."""
    for folder, changed in _folders.items():
        if _changed(folder) != changed:
            return "%s has changed since its imports" % folder
    return ""


def refusal(environ: dict[bytes, bytes]) -> str:
    """Say which variable keeps a worker with environ from being forked; "" if none does."""
    for key in _given.keys() | environ.keys():
        name = key.decode("utf-8", "replace")
        if (name.startswith(_EARLY) or name in _EARLY_NAMES) and _given.get(key) != environ.get(key):
            return "%s differs" % name
    return ""


def completed(environ: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return environ with what the interpreter itself has set in its environment at its start."""
    own = {key: value for key, value in _environ.items() if key not in _given}
    return {**environ, **own}


def differs(message: dict[str, Any]) -> str:
    """Say why what was imported is not what the load would import itself; "" if it is the same."""
    wanted = dict(posix.environ)
    for name, value in (message.get("env") or {}).items():
        wanted[name.encode("utf-8", "surrogateescape")] = value.encode("utf-8", "surrogateescape")
    for key in _environ.keys() | wanted.keys():
        name = key.decode("utf-8", "replace")
        seen = key in _reads or name.startswith(_EARLY + _NATIVE) or name in _EARLY_NAMES
        if _read_all and not name.startswith(("MILLRACE_", "MLRUN_", "NUCLIO_")):
            seen = True
        if seen and _environ.get(key) != wanted.get(key):
            return "the environment differs in %s" % name
    file = message.get("file")
    folders = list(message.get("path") or ([file.rpartition("/")[0] or "/"] if file else []))
    folders += (message.get("env") or {}).get("PYTHONPATH", "").split(":")
    for folder in folders:
        try:
            entries = posix.listdir(folder) if folder else []
        except OSError:
            continue
        for entry in entries:
            stem = entry.partition(".")[0]
            if stem in _preloaded and stem not in sys.builtin_module_names:
                return "%s in %s has the name of a module that was imported" % (entry, folder)
    return ""


def check(message: dict[str, Any], head: bytes, pipe: _wire.Pipe) -> None:
    """Become a fresh interpreter, which gets the load again, if this one would not do."""
    reason = differs(message)
    if not reason:
        return
    from millrace import _fork

    note = {"text": "the forked process starts over: " + reason}
    pipe.queue(_wire.pack(_wire.NOTE, 0, _json.dumps(note).encode(), flags=_wire.OPTIONAL))
    pipe.flush()
    _fork.start_over(pipe, _wire.pack(_wire.LOAD, 0, head) + pipe._buffer[pipe._start :])


def reseed() -> None:
    """Give the child chance and secrets of its own; `random` does so by itself."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = posix.urandom(32)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def work(host: tuple[int, int, int]) -> None:
    """Be the worker, on descriptors 3 and 4."""
    _worker.work(_wire.Pipe(3, 4, host))
