"""Child runs of a context: starting them, the best of them, their table."""

from __future__ import annotations

from millrace import _values
from millrace._context import MLClientCtx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def start(parent: MLClientCtx, with_parent_params: bool, params: dict[str, Any]) -> MLClientCtx:
    """Start a child run with params, numbered from 1; with_parent_params keeps the parent's as well."""
    if parent._iteration:
        raise ValueError("a child run cannot have children; call get_child_context on the parent's context")
    document = dict(parent._document)
    document["spec"] = dict(document.get("spec") or {}, parameters={})
    parameters = dict(parent._parameters, **params) if with_parent_params else params
    child = MLClientCtx(
        document,
        parent._emit,
        iteration=len(parent._children) + 1,
        parameters=parameters,
        inputs=parent._inputs,
        parent=parent,
    )
    child.artifact_path = parent.artifact_path
    child._labels = dict(parent._labels)
    parent._emit(
        {"t": "child", "iter": child._iteration, "parameters": _values.plain(parameters), "state": "running"},
    )
    parent._children.append(child)
    parent._table_sent = False
    return child


def drawn(parent: MLClientCtx, values: Any) -> Any:
    """Make a child of each value that a handler of strategy custom yields; anything else is returned as it is.

    A value is the child's results, or a pair of its parameters and results. With a
    selector the best child's results are the parent's, as soon as it is known.
    """
    options = (parent._document.get("spec") or {}).get("hyper_param_options") or {}
    if options.get("strategy") != "custom":
        return values
    criterion, _, name = str(options.get("selector") or "").rpartition(".")
    sign = -1.0 if criterion == "min" else 1.0
    best: float | None = None
    for value in values:
        pair = value if isinstance(value, tuple) else ({}, value)
        if len(pair) != 2 or not isinstance(pair[0], dict) or not isinstance(pair[1], dict):
            raise TypeError(
                "a handler that makes iterations yields their results as a dict, or a pair of dicts: "
                "parameters and results; it yielded a %s" % type(value).__name__
            )
        child = start(parent, False, pair[0])
        child.log_results(pair[1])
        child.commit(completed=True)
        score = _score(pair[1].get(name)) if name else None
        if score is not None and (best is None or sign * score > sign * best):
            best = score
            adopt(parent, child)
    return None


def _score(value: Any) -> float | None:
    """Return what a selector compares: numbers and texts that are numbers, but not NaN."""
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if score == score else None


def update(parent: MLClientCtx, best_run: int, commit_children: bool, completed: bool) -> None:
    """Send the table of the children; best_run is the number of the best one, 0 for none."""
    if best_run < 0 or best_run > len(parent._children):
        raise ValueError("best_run is %d, but there are %d child runs" % (best_run, len(parent._children)))
    if commit_children:
        for child in parent._children:
            child.commit(completed=completed)
    if best_run:
        adopt(parent, parent._children[best_run - 1])
    send_table(parent)


def adopt(parent: MLClientCtx, child: MLClientCtx) -> None:
    """Make the results and artifacts of child, the best one, those of its parent."""
    parent._best = child._iteration
    results = dict(child._results, best_iteration=child._iteration)
    parent._update("results", results)
    parent._results.update(results)
    parent._artifacts.update(child._artifacts)
    parent._table_sent = False


def send_table(parent: MLClientCtx) -> None:
    """Send the table of the children as it stands."""
    parent._emit({"t": "iterations", "table": table(parent), "best": parent._best})
    parent._table_sent = True


def table(parent: MLClientCtx) -> list[list[Any]]:
    """Return a header and a row for each child: its state, number, parameters and results."""
    parameters: dict[str, None] = {}
    outputs: dict[str, None] = {}
    for child in parent._children:
        parameters.update(dict.fromkeys(child._parameters))
        outputs.update(dict.fromkeys(child._results))
    rows: list[list[Any]] = [
        ["state", "iter"] + ["param." + key for key in parameters] + ["output." + key for key in outputs]
    ]
    for child in parent._children:
        row: list[Any] = [child._state, child._iteration]
        row += [_values.plain(child._parameters.get(key)) for key in parameters]
        row += [child._results.get(key) for key in outputs]
        rows.append(row)
    return rows
