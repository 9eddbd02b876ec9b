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

_seed: int | None = None
_watch = False
_actions: dict[str, Callable[[ModuleType], None]] = {}


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
    if _watch:
        from millrace import _watch as watch

        watch.random(module)


def _numpy(module: Any) -> None:
    if _seed is not None:
        module.seed(_seed)
    if _watch:
        from millrace import _watch as watch

        watch.numpy_random(module)


def begin() -> None:
    """Start a call: the generators begin at the seed again, whatever was imported meanwhile."""
    if _watch:
        from millrace import _watch as watch

        watch.begin()
    if _seed is not None:
        for name in ("random", "numpy.random"):
            module = sys.modules.get(name)
            if module is not None:
                getattr(module.seed, "__wrapped__", module.seed)(_seed)
    if _watch:
        watch.baseline()


def end(emit: Callable[[dict[str, Any]], None]) -> None:
    """End a call: say which sources of chance the code was seen to use."""
    if _watch:
        from millrace import _watch as watch

        emit({"t": "provenance", "nondeterminism": watch.end()})
