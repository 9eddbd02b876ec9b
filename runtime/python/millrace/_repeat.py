"""What makes a run repeatable: generators seeded, and sources of chance watched.

Imported only when the host sets MILLRACE_SEED (the run has a seed) or
MILLRACE_WATCH (the run repeats another one, and if their outputs differ somebody
will ask why). Modules are seeded or watched when user code imports them, so
nothing is imported that the code does not import itself.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable

_SEEDED = ("random", "numpy.random")
_seed: int | None = None
_watch = False
_actions: dict[str, Callable[[ModuleType], None]] = {}
_forks = 0
_fork_seen = False
_started: set[str] = set()  # how Python processes were started that no seed reaches


class _Finder:
    """Does what is to be done with a module once it was executed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _actions:
            return None
        action = _actions.pop(name)
        for finder in sys.meta_path:
            if finder is _Finder or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _after(spec.loader, action)
                return spec
        return None


def _after(loader: Any, action: Callable[[ModuleType], None]) -> None:
    """Have action called when loader has executed its module."""
    original = getattr(loader, "exec_module", None)
    if original is None:
        return

    def exec_module(module: ModuleType) -> None:
        try:
            del loader.exec_module
        except AttributeError:
            pass
        original(module)
        action(module)

    try:
        loader.exec_module = exec_module
    except (AttributeError, TypeError):
        pass  # a loader that nothing can be set on: its module stays as it is


def prepare(env: dict[str, str]) -> None:
    """Arrange for what env asks for; call before user code is loaded."""
    global _seed, _watch
    text = env.get("MILLRACE_SEED", "")
    _seed = int(text) if text.isdigit() else None
    _watch = env.get("MILLRACE_WATCH") == "1"
    if _watch:
        from millrace import _watch as watch

        watch.prepare(_on)
    if _seed is not None or _watch:
        sys.addaudithook(_audit)
        _on("multiprocessing.popen_spawn_posix", _spawning)
        _on("multiprocessing.popen_forkserver", _spawning)
    _on("random", _random)
    _on("numpy.random", _numpy)
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder)


def _on(name: str, action: Callable[[ModuleType], None]) -> None:
    """Do action with the module of that name: now if it is there, else when it is imported."""
    module = sys.modules.get(name)
    if module is not None:
        action(module)
    else:
        _actions[name] = action


def _random(module: Any) -> None:
    if _seed is not None:
        module.seed(_seed)
        _follow_forks()
    if _watch:
        from millrace import _watch as watch

        watch.random(module)


def _numpy(module: Any) -> None:
    if _seed is not None:
        module.seed(_seed)
        _follow_forks()
    if _watch:
        from millrace import _watch as watch

        watch.numpy_random(module)


def _follow_forks() -> None:
    """Seed the generators of processes that the code forks: each its own way, in the order of the forks.

    Called when a module was imported, because `random` itself takes entropy of the system in a new
    process, and what was registered last is done last.
    """
    import posix

    global _fork_seen
    if not _fork_seen:
        _fork_seen = True
        posix.register_at_fork(before=_before_fork)
    posix.register_at_fork(after_in_child=_after_fork)


def _before_fork() -> None:
    global _forks
    _forks += 1


def _after_fork() -> None:
    if _seed is not None:
        _reseed((_seed + _forks) % 2**32)


def _reseed(seed: int) -> None:
    for name in _SEEDED:
        module = sys.modules.get(name)
        if module is not None:
            getattr(module.seed, "__wrapped__", module.seed)(seed)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Note that a new Python process is started."""
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        program = arguments[0]
        if event == "subprocess.Popen" and not program:
            program = arguments[1][0] if isinstance(arguments[1], (list, tuple)) and arguments[1] else arguments[1]
        name = program.decode("utf-8", "replace") if isinstance(program, bytes) else str(program)
        if name.rpartition("/")[2].startswith(("python", "pypy")):
            _started.add("subprocess")


def _spawning(module: Any) -> None:
    original = module.Popen.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        _started.add("multiprocessing")
        original(self, *args, **kwargs)

    module.Popen.__init__ = init


def begin(seed: int | None = None) -> None:
    """Start a call: the generators begin at the call's seed, or the run's again, whatever was imported meanwhile."""
    global _seed
    if seed is not None:
        _seed = seed
    if _watch:
        from millrace import _watch as watch

        watch.begin()
    global _forks
    _forks = 0
    if _seed is not None:
        _reseed(_seed)
    if _watch:
        watch.baseline()


def end(emit: Callable[[dict[str, Any]], None]) -> None:
    """End a call: say which sources of chance the code was seen to use, and what its seed did not reach."""
    record: dict[str, Any] = {"t": "provenance"}
    if _started and _seed is not None:
        record["unseeded"] = sorted(_started)
    if _watch:
        from millrace import _watch as watch

        record["nondeterminism"] = sorted([*watch.end(), *(["processes"] if _started else ())])
    if len(record) > 1:
        emit(record)
