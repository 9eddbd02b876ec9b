"""The kinds of artifacts."""

from __future__ import annotations

from typing import Any

import millrace
from millrace import _facade

_NAMES = (
    "Artifact",
    "ChartArtifact",
    "DatasetArtifact",
    "DirArtifact",
    "DocumentArtifact",
    "DocumentLoaderSpec",
    "ModelArtifact",
    "PlotArtifact",
    "PlotlyArtifact",
    "TableArtifact",
    "artifact_types",
    "get_model",
    "update_dataset_meta",
    "update_model",
)
__all__ = list(_NAMES)
_ABSENT = (
    "ArtifactManager", "ArtifactMetadata", "ArtifactProducer", "ArtifactSpec", "ArtifactStatus", "CodeArtifact",
    "CodeArtifactCodeType", "CodeArtifactSpec", "DatasetArtifactSpec", "DirArtifactSpec", "DocumentArtifactSpec",
    "LLMPromptArtifact", "LLMPromptArtifactSpec", "LinkArtifact", "ModelArtifactSpec", "TableArtifactSpec",
    "dict_to_artifact",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "artifact_types":
        from millrace import _artifacts

        kinds = ("", "artifact", "dir", "plot", "plotly", "table", "dataset", "model", "document")
        return {kind: _artifacts.kinds(kind) for kind in kinds}
    if name in __all__:
        return getattr(millrace, name)
    return _facade.absent(__name__, name, _ABSENT)
