"""What an input was when it was read, for the run's provenance."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx
    from millrace._data import DataItem

_MEASURED = 256 << 20  # larger files that only the code named are recorded without a digest


def record(context: MLClientCtx, item: DataItem, size: int | None, digest: str | None) -> None:
    """Record what an input was when it was read. Files that the run was given are looked at by the host."""
    if digest is None and item.kind == "file":
        if item.url_given in ((context._document.get("spec") or {}).get("inputs") or {}).values():
            return
        if size is not None and size <= _MEASURED:
            from millrace import _content

            digest = _content.measure(item.local()).digest
    facts: dict[str, Any] = {"url": item.artifact_url}
    if size is not None:
        facts["size"] = size
    if digest:
        facts["digest"] = digest
    if item.artifact_url != item.url:
        facts["target"] = item.url
    context._emit({"t": "provenance", "iter": context._iteration, "inputs": {item.key: facts}})
