"""Links between outputs: extra data and metrics whose value is another output of the run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._artifacts import Artifact
    from millrace._context import MLClientCtx
    from millrace._pack import Packed
    from millrace._returns import Hint


def resolve(context: MLClientCtx, artifacts: list[Artifact], results: dict[str, Any]) -> None:
    """Put what the values `...` in extra_data and metrics stand for in their place.

    An extra is the artifact of its key, else the result; a metric is the result.
    They are looked for among artifacts and results, which are about to be logged,
    and what was logged before. One that is nowhere is said in the log and left out.
    Artifacts that were logged with such a link are recorded again.
    """
    known: dict[str, Any] = dict(context._results, **results)
    outputs = dict(known, **context._artifacts)
    outputs.update((artifact.key, artifact) for artifact in artifacts)
    for artifact in [*artifacts, *context._artifacts.values()]:
        linked = _fill(context, artifact, artifact.extra_data, outputs, "as extra data of")
        metrics = getattr(artifact, "metrics", None)
        if isinstance(metrics, dict):
            linked = _fill(context, artifact, metrics, known, "as a metric of") or linked
        if linked and artifact not in artifacts:
            for key, value in artifact.extra_data.items():
                artifact.extra_data[key] = getattr(value, "target_path", value)
            context.update_artifact(artifact)


def _fill(context: MLClientCtx, artifact: Artifact, links: dict[str, Any], outputs: dict[str, Any], what: str) -> bool:
    found = False
    for key in [key for key, value in links.items() if value is ...]:
        if outputs.get(key) is None or outputs[key] is artifact:
            context.logger.warning("there is no output %s to link %s %s" % (key, what, artifact.key))
            del links[key]
        else:
            links[key] = outputs[key]
            found = True
    return found


def in_order(made: list[tuple[Hint, Packed]]) -> list[tuple[Hint, Packed]]:
    """Return the outputs so that an artifact comes after those that it links to, as far as they are no circle."""
    ordered: list[tuple[Hint, Packed]] = []
    waiting = list(made)
    while waiting:
        left = {id(packed.artifact) for _, packed in waiting}
        ready = [
            one for one in waiting
            if not any(id(value) in left for value in one[1].artifact.extra_data.values())
        ]  # fmt: skip
        ready = ready or waiting
        ordered.extend(ready)
        waiting = [one for one in waiting if one not in ready]
    return ordered
