"""Millrace beside your code: the run's context, its inputs and its outputs.

Public names: Context (also as MLClientCtx), DataItem, Artifact, get_context,
get_or_create_ctx. A handler gets its context as the argument `context`; a
script calls get_context().
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._artifacts import Artifact
    from millrace._context import Context, MLClientCtx
    from millrace._data import DataItem

__all__ = ["Artifact", "Context", "DataItem", "MLClientCtx", "get_context", "get_or_create_ctx"]

_HOMES = {"Context": "_context", "MLClientCtx": "_context", "DataItem": "_data", "Artifact": "_artifacts", "DirArtifact": "_artifacts"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError("module 'millrace' has no attribute %r" % name)
    module = __import__("millrace." + _HOMES[name], fromlist=(name,))
    return getattr(module, name)


def get_context(name: str = "") -> Context:
    """Return the context of the run that this process executes.

    Outside of a run it is a context of its own, whose results go nowhere but
    into its to_dict(); name names that one.
    """
    from millrace import _context

    return _context.current(name)


def get_or_create_ctx(name: str, **_options: Any) -> Context:
    """Do what get_context does, under the name that MLRun scripts use; further arguments are ignored."""
    return get_context(name)
