"""What `import site` does to a starting interpreter, as late as nobody can tell.

A worker starts with -S. Setting up site-packages costs 2 to 4 ms in an empty
virtual environment and tens of milliseconds where .pth files import packages;
an interpreter without it starts in 10. So it is done, by the interpreter's own
site.main(), just before user code first imports a module that is not on the
list below, or uses one of the names that site adds to the built-in ones.

Code that does neither runs before .pth files and sitecustomize had their say.
Where they are known to matter to such code it is done at once: PYTHONPATH is
set, coverage of subprocesses is asked for, or MILLRACE_SITE=start.
"""

from __future__ import annotations

import builtins
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

# Modules that show nothing of sys.path, of the environment or of other processes.
_PURE = frozenset(
    "__future__ _io _warnings abc array base64 binascii bisect calendar cmath collections copy dataclasses datetime "
    "decimal enum errno fractions functools heapq hashlib hmac itertools json math numbers operator random re "
    "secrets statistics string struct textwrap time types typing unicodedata zlib millrace".split()
)
_ADDED = frozenset(("exit", "quit", "copyright", "credits", "license", "help"))
_REFLECTION = frozenset(("__import__", "__builtins__", "eval", "exec", "compile", "globals", "vars", "dir"))
_EAGER = (b"PYTHONPATH", b"COVERAGE_PROCESS_START", b"COVERAGE_PROCESS_CONFIG", b"MILLRACE_SITE")

_pending = False
_last = ""  # the last entry of sys.path as the interpreter made it
_depth = 0
_import = builtins.__import__


def prepare(runtime_dir: str) -> None:
    """Arrange for the set-up at the first import that could notice; call once, at start.

    runtime_dir becomes the last entry of sys.path: processes that user code
    spawns find the package millrace there.
    """
    global _pending, _last
    _last = sys.path[-1] if sys.path else ""
    sys.path.append(runtime_dir)
    sys.meta_path.append(LastFinder())
    if not sys.flags.no_site:
        return
    _pending = True
    for name in _EAGER:
        if name in posix.environ:
            complete()
            return
    builtins.__import__ = _guarded


def complete() -> None:
    """Do the set-up now, unless it is done."""
    global _pending
    if not _pending:
        return
    _pending = False
    if builtins.__import__ is _guarded:
        builtins.__import__ = _import
    sys.flags = _flags()
    # What was appended since comes after site-packages.
    end = sys.path.index(_last) + 1 if _last in sys.path else len(sys.path)
    appended = sys.path[end:]
    del sys.path[end:]
    import site

    site.main()
    sys.path += appended


def before(code: CodeType) -> None:
    """Complete the set-up if code uses names that depend on it."""
    if not _pending:
        return
    todo = [code]
    while todo:
        current = todo.pop()
        for name in current.co_names:
            if name in _ADDED or name in _REFLECTION:
                complete()
                return
        for constant in current.co_consts:
            if type(constant) is type(code):
                todo.append(constant)


def _guarded(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """Stand in for __import__ until the first import of a module that is not pure."""
    global _depth
    if _depth == 0 and _pending and (level or name.partition(".")[0] not in _PURE) and not _own(name, globals):
        complete()
    _depth += 1
    try:
        return _import(name, globals, locals, fromlist, level)
    finally:
        _depth -= 1


def _own(name: str, importer: Any) -> bool:
    """Say whether it is this package that imports a module which is in the interpreter itself."""
    return name in sys.builtin_module_names and importer is not None and importer.get("__package__") == "millrace"


def _flags() -> Any:
    """Return sys.flags as of an interpreter started without -S.

    Programs build the command line of their own child interpreters from it.
    """
    flags = sys.flags
    names = [name for name in dir(flags) if not name.startswith(("_", "n_")) and name not in ("count", "index")]
    members: dict[str, Any] = {name: getattr(flags, name) for name in names}
    members["no_site"] = 0
    text = repr(flags).replace("no_site=1", "no_site=0")
    members["__repr__"] = lambda _: text
    position = 0
    for part in text.partition("(")[2].split(", "):
        if part.startswith("no_site="):
            break
        position += 1
    values = list(flags)
    if position < len(values):
        values[position] = 0
    members["__module__"] = "sys"
    return type("flags", (tuple,), members)(values)


class LastFinder:
    """Finds the built-in `mlrun` and `nuclio_sdk` once everybody else was asked; see millrace._facade."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return a spec for mlrun, its modules and nuclio_sdk, None for anything else."""
        if name not in ("mlrun", "nuclio_sdk") and not name.startswith("mlrun."):
            return None
        from millrace import _facade

        return _facade.find(name, self)
