"""The run of a context as a document."""

from __future__ import annotations

from millrace import _values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx


def producer(context: MLClientCtx) -> dict[str, Any]:
    """Return how artifacts name the run as their producer."""
    uri = "%s/%s" % (context.project, context.uid)
    meta = {"name": context.name, "kind": "run", "uri": uri, "owner": context._labels.get("owner", "")}
    if "workflow" in context._labels:
        meta["workflow"] = context._labels["workflow"]
    return meta


def document(context: MLClientCtx) -> dict[str, Any]:
    """Return the run with what was logged so far."""
    run: dict[str, Any] = _values.copy(context._document)
    run["kind"] = "run"
    metadata = run.setdefault("metadata", {})
    metadata.update(
        name=context.name, labels=context.labels, annotations=context.annotations, iteration=context._iteration
    )
    spec = run.setdefault("spec", {})
    spec.update(parameters=context.parameters, inputs=dict(context._inputs), output_path=context.artifact_path)
    status: dict[str, Any] = {"results": context.results, "state": context._state}
    if context._artifacts:
        status["artifacts"] = context.artifacts
        status["artifact_uris"] = {key: artifact.uri for key, artifact in context._artifacts.items() if artifact.db_key}
    if context._error is not None:
        status["error"] = context._error
    if context._children:
        from millrace import _children

        status["iterations"] = _children.table(context)
    run["status"] = dict(run.get("status") or {}, **status)
    return run
