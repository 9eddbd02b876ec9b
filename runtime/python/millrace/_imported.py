"""What the code of a function has imported of its environment, for templates.

The host asks for it once (docs/protocol.md, "Templates"): names in the order in
which they were imported, so that importing them in that order is the same.
"""

from __future__ import annotations

import sys

from millrace import _json, _load, _site, _wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

_MOST = 20000


def report(pipe: _wire.Pipe, target: _load.Script | _load.Handler) -> Any:
    """Tell the host what is imported: at once for a handler, after a call for a script.

    Returns what is to be called in place of target.
    """
    if isinstance(target, _load.Script):
        return _Reporting(pipe, target)
    tell(pipe)
    return target


class _Reporting:
    """A script whose imports are told when it has run the first time."""

    returns = False

    def __init__(self, pipe: _wire.Pipe, target: _load.Script) -> None:
        self.name = target.name
        self._pipe = pipe
        self._target = target
        self._told = False

    def __call__(self, context: MLClientCtx) -> None:
        try:
            self._target(context)
        finally:
            if not self._told and not self._pipe.forked:
                self._told = True
                tell(self._pipe)


def tell(pipe: _wire.Pipe) -> None:
    """Tell the host what is imported."""
    head = _json.dumps({"modules": modules()}).encode()
    pipe.queue(_wire.pack(_wire.NOTE, 0, head, flags=_wire.OPTIONAL))


def modules() -> list[str]:
    """Return the imported modules that belong to the environment and are worth to be there beforehand."""
    if _site._pending:
        return []  # nothing but pure modules
    folders = {folder.rstrip("/") + "/" for folder in sys.path if folder.endswith(("/site-packages", "/dist-packages"))}
    standard = getattr(sys.modules.get("os"), "__file__", None)
    if standard:
        folders.add(standard.rpartition("/")[0] + "/")
    belonging = tuple(folders)
    names = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if spec is None or spec.name != name or not isinstance(origin, str) or not origin.startswith(belonging):
            continue  # another name of a module, a namespace, built in, or the user's
        if name.partition(".")[0] not in _site._PURE:
            names.append(name)
    return names[:_MOST]
