"""Names of the feature store, which is not here: modules that mention them can be imported."""

from __future__ import annotations

from typing import Any

from millrace import _facade

_NAMES = (
    "DateExtractor", "DropFeatures", "Entity", "Feature", "FeatureAggregation", "FeatureSet", "FeatureSetSpec",
    "FeatureSetStatus", "FeatureVector", "FeatureVectorSpec", "FeatureVectorStatus", "FeaturesetValidator",
    "FixedWindowType", "Imputer", "InferOptions", "JoinGraph", "MLRunStep", "MapValues",
    "OfflineVectorResponse", "OneHotEncoder", "OnlineVectorService", "RunConfig", "SetEventMetadata",
    "ValueType", "delete_feature_set", "delete_feature_vector", "deploy_ingestion_service_v2",
    "get_feature_set", "get_feature_vector", "get_offline_features", "get_online_feature_service", "ingest",
    "preview", "run_ingestion_job",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
