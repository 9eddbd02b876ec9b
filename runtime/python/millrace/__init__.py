"""Millrace beside your code: the run's context, its inputs and its outputs.

Public names: Context (also as MLClientCtx), DataItem, the kinds of artifacts,
get_context, get_or_create_ctx, get_dataitem, get_model, update_model,
update_dataset_meta; Event and Response of real-time functions. A handler gets its context as the argument `context`; a
script calls get_context().
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._artifacts import Artifact, DirArtifact
    from millrace._context import Context, MLClientCtx
    from millrace._data import DataItem
    from millrace._datasets import DatasetArtifact, TableArtifact
    from millrace._documents import DocumentArtifact, DocumentLoaderSpec
    from millrace._event import Event
    from millrace._models import Feature, ModelArtifact, get_model
    from millrace._plots import ChartArtifact, PlotArtifact, PlotlyArtifact
    from millrace._response import Response

__all__ = [
    "Artifact",
    "ChartArtifact",
    "Context",
    "DataItem",
    "DatasetArtifact",
    "DirArtifact",
    "DocumentArtifact",
    "DocumentLoaderSpec",
    "Event",
    "Feature",
    "MLClientCtx",
    "ModelArtifact",
    "PlotArtifact",
    "PlotlyArtifact",
    "Response",
    "TableArtifact",
    "get_context",
    "get_dataitem",
    "get_model",
    "get_or_create_ctx",
    "update_dataset_meta",
    "update_model",
]

_HOMES = {
    "Context": "_context",
    "MLClientCtx": "_context",
    "DataItem": "_data",
    "Artifact": "_artifacts",
    "DirArtifact": "_artifacts",
    "ChartArtifact": "_plots",
    "PlotArtifact": "_plots",
    "PlotlyArtifact": "_plots",
    "DatasetArtifact": "_datasets",
    "TableArtifact": "_datasets",
    "DocumentArtifact": "_documents",
    "DocumentLoaderSpec": "_documents",
    "Feature": "_models",
    "ModelArtifact": "_models",
    "get_model": "_models",
    "Event": "_event",
    "Response": "_response",
}


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


def get_dataitem(url: str, secrets: dict[str, str] | None = None) -> DataItem:
    """Return the data at a URL; secrets are credentials by their names, which come before those of the run."""
    from millrace import _data

    return _data.DataItem("", url, secrets=secrets)


def update_model(model_artifact: Any, *arguments: Any, **options: Any) -> Artifact:
    """Add to what is recorded about a model, in the run of this process."""
    return get_context().update_model(model_artifact, *arguments, **options)


def update_dataset_meta(artifact: Any, *arguments: Any, **options: Any) -> Artifact:
    """Change what is recorded about a data set, in the run of this process; see millrace._datasets.update_meta."""
    from millrace import _datasets

    return _datasets.update_meta(get_context(), artifact, *arguments, **options)
