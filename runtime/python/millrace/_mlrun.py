"""The real mlrun package in the function's environment.

User code that has imported it gets mlrun's own context and data items, and what
that context recorded is forwarded to the run at the end. What mlrun sends over
HTTP itself, when MLRUN_DBPATH is set, is none of our business here.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from millrace._context import MLClientCtx

# One call runs at a time: the run's context, mlrun's for it, and what was sent.
_own: MLClientCtx | None = None
_real: Any = None


def context_for(context: MLClientCtx) -> Any:
    """Return mlrun's context for the run of context; None if it is not to be used."""
    global _own, _real
    mlrun = sys.modules.get("mlrun")
    create = getattr(mlrun, "get_or_create_ctx", None)
    if create is None or hasattr(mlrun, "__millrace__") or not os.environ.get("MLRUN_EXEC_CONFIG"):
        return None
    if _own is context:
        return _real
    if context.iteration or context._parameters != (context._document.get("spec") or {}).get("parameters", {}):
        document = context.to_dict()
        document.pop("status", None)
        real = create(context.name, spec=document)
    else:
        real = create(context.name)
    # Inputs whose keys have a type hint are known to it by their names too.
    for name, url in context._inputs.items():
        real.inputs.setdefault(name, url)
    _watch_artifacts(real, context)
    _own, _real = context, real
    return real


def _watch_artifacts(real: Any, context: MLClientCtx) -> None:
    """Record each artifact as it is logged, unless mlrun itself sends it to the API."""
    manager = getattr(real, "_artifacts_manager", None)
    if manager is None or _has_api():
        return
    original = manager.log_artifact

    def log_artifact(*args: Any, **options: Any) -> Any:
        artifact = original(*args, **options)
        document = artifact.to_dict()
        context._emit({"t": "artifact", "iter": context.iteration, "key": artifact.key, "doc": _plain(document)})
        return artifact

    manager.log_artifact = log_artifact


def _has_api() -> bool:
    return "://" in os.environ.get("MLRUN_DBPATH", "")


def wrap(function: Callable[..., Any], context: MLClientCtx, bound: list[Any]) -> Callable[..., Any]:
    """Wrap a handler as mlrun does: inputs are parsed by type hints, outputs packed by `returns`.

    Only where there is something to do, since parsing the hints of a handler that
    needs none of it can fail.
    """
    import mlrun

    spec = context._document.get("spec") or {}
    hints = {}
    for key in spec.get("inputs") or {}:
        name, separator, hint = key.partition(":")
        if separator:
            hints[name.strip()] = hint.strip()
    returns = spec.get("returns") or None
    annotated = getattr(function, "__annotations__", {})
    parsed = hints or any(name in annotated for name in context._inputs)
    given = any(value is _real for value in bound)
    if not (returns or parsed) or not mlrun.mlconf.packagers.enabled:
        # A decorator of mlrun's may be inside.
        return function if given or not hasattr(function, "__wrapped__") else _as_local(function)
    import mlrun.runtimes.local as local

    # The public decorator warns in versions that have this one.
    decorator = getattr(local, "mlrun_handler_decorator", None) or mlrun.handler
    wrapped: Callable[..., Any] = decorator(inputs=hints or bool(parsed), outputs=returns)(function)
    return wrapped if given else _as_local(wrapped)


def _as_local(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """Make wrapped be called from what looks like mlrun's local runtime."""
    import mlrun.runtimes.local as local

    # mlrun finds the context of a handler that does not take it by looking for a
    # frame of its own local runtime on the stack.
    scope: dict[str, Any] = {"wrapped": wrapped}
    source = "def call(*args, **kwargs):\n    return wrapped(*args, **kwargs)\n"
    exec(compile(source, str(local.__file__), "exec"), scope)
    call: Callable[..., Any] = scope["call"]
    return call


def logs_returns(context: MLClientCtx) -> bool:
    """Say whether mlrun has logged the outputs by the run's `returns` already."""
    return _own is context and _real is not None and bool((context._document.get("spec") or {}).get("returns"))


def forward(context: MLClientCtx) -> None:
    """Emit what mlrun's context of this process recorded, and let it write its own state."""
    global _own, _real
    watched = _own is context
    real = _real if watched else _global_context(context)
    _own = _real = None
    if real is None:
        return
    if not _has_api():
        if not watched:
            _forward_artifacts(real, context)
        _forward_children(real, context)
    iteration = context.iteration
    record: dict[str, Any] = {"t": "update", "iter": iteration}
    # mlrun sets the label kind itself when the run has none.
    known = {
        "labels": dict({"kind": "local"}, **context.labels),
        "annotations": context.annotations,
        "parameters": context.parameters,
    }
    for what in ("results", "labels", "annotations", "parameters"):
        values = dict(getattr(real, what, None) or {})
        values = {key: value for key, value in values.items() if known.get(what, {}).get(key) != value}
        if values:
            record[what] = _plain(values)
    if len(record) > 2:
        context._emit(record)
        context._results.update(record.get("results", {}))
    status = real.to_dict().get("status") or {}
    if status.get("iterations"):
        best = (real.results or {}).get("best_iteration") or 0
        header, *rows = _plain(status["iterations"])
        # mlrun leaves out the state of a child that has completed.
        rows = [[row[0] or "completed", *row[1:]] for row in rows]
        context._emit({"t": "iterations", "table": [header, *rows], "best": best})
    if real.state == "error":
        context.set_state(error=status.get("error") or "the code set the state to error", commit=False)
    elif real.state == "running":
        real.commit(completed=False)


def _forward_artifacts(real: Any, context: MLClientCtx) -> None:
    """Emit the artifacts of a context that a script made itself, where its version of mlrun has kept them."""
    kept = getattr(getattr(real, "_artifacts_manager", None), "artifacts", None) or {}
    for key, artifact in kept.items():
        document = artifact if isinstance(artifact, dict) else artifact.to_dict()
        context._emit({"t": "artifact", "iter": context.iteration, "key": key, "doc": _plain(document)})


def _forward_children(real: Any, context: MLClientCtx) -> None:
    for child in getattr(real, "_children", None) or ():
        record = {"t": "child", "iter": child.iteration, "parameters": _plain(child.parameters)}
        failed = child.state in ("error", "aborted")
        context._emit(dict(record, state=child.state if failed else "completed"))
        if child.results:
            context._emit({"t": "update", "iter": child.iteration, "results": _plain(child.results)})


def _global_context(context: MLClientCtx) -> Any:
    """Return the context that a script made with mlrun.get_or_create_ctx; None if it is another run's."""
    utils = sys.modules.get("mlrun.runtimes.utils")
    holder = getattr(utils, "global_context", None)
    real = holder.get() if holder is not None else None
    if real is None or str(real.uid).partition("-")[0] != context.uid.partition("-")[0]:
        return None
    return real


def _plain(value: Any) -> Any:
    """Return value as JSON, numpy and times included."""
    import json

    return json.loads(json.dumps(value, default=_default))


def _default(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
