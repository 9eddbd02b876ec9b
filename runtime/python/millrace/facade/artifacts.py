"""The kinds of artifacts."""

from __future__ import annotations

from typing import Any

import millrace
from millrace import _facade

_NAMES = (
    "Artifact",
    "ArtifactMetadata",
    "ArtifactSpec",
    "ChartArtifact",
    "DatasetArtifact",
    "DirArtifact",
    "DocumentArtifact",
    "LinkArtifact",
    "ModelArtifact",
    "PlotArtifact",
    "PlotlyArtifact",
    "TableArtifact",
    "get_model",
    "update_dataset_meta",
    "update_model",
)
__all__ = [name for name in _NAMES if name in millrace.__all__]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(millrace, name)
    return _facade.submodule(__name__, name)
