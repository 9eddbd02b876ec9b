"""The logger, and a few helpers that code imports from here."""

from __future__ import annotations

import datetime
from typing import Any

from millrace import _context, _facade
from millrace._log import Logger

__all__ = [
    "Logger", "StorePrefix", "create_class", "create_function", "create_logger", "get_in", "logger", "now_date",
    "parse_versioned_object_uri", "update_in",
]  # fmt: skip


class _RunLogger:
    """The logger of whatever run the process executes just now."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_context.current("").logger, name)


logger: Any = _RunLogger()


def create_logger(
    level: str | None = None, formatter_kind: str = "human", name: str = "mlrun", stream: Any = None
) -> Logger:
    """Return a logger of its own; there is one format."""
    made = Logger(level or "info")
    made.stream = stream
    return made


def now_date(tz: datetime.tzinfo = datetime.timezone.utc) -> datetime.datetime:
    """Return the time with its zone."""
    return datetime.datetime.now(tz=tz)


def get_in(obj: Any, keys: str | list[str], default: Any = None) -> Any:
    """Return what lies in nested dicts at a dotted path."""
    for key in keys.split(".") if isinstance(keys, str) else keys:
        if not obj or key not in obj:
            return default
        obj = obj[key]
    return obj


def update_in(obj: dict[str, Any], key: str | list[str], value: Any) -> None:
    """Set what lies in nested dicts at a dotted path."""
    *folders, last = key.split(".") if isinstance(key, str) else key
    for folder in folders:
        obj = obj.setdefault(folder, {})
    obj[last] = value


class StorePrefix:
    """The kinds that store:// URIs begin with."""

    FeatureSet = "feature-sets"
    FeatureVector = "feature-vectors"
    Artifact = "artifacts"
    Model = "models"
    Dataset = "datasets"
    Document = "documents"
    LLMPrompt = "llm-prompts"

    @classmethod
    def is_artifact(cls, prefix: str) -> bool:
        """Say whether it is the kind of an artifact."""
        return prefix in (cls.Artifact, cls.Model, cls.Dataset, cls.Document, cls.LLMPrompt)

    @classmethod
    def is_prefix(cls, prefix: str) -> bool:
        """Say whether it is one of the kinds."""
        return cls.is_artifact(prefix) or prefix in (cls.FeatureSet, cls.FeatureVector)


def create_class(pkg_class: str) -> Any:
    """Return what a dotted name such as package.module.Class stands for."""
    from importlib import import_module

    module, _, name = pkg_class.rpartition(".")
    return getattr(import_module(module), name)


create_function = create_class


def parse_versioned_object_uri(uri: str, default_project: str = "") -> tuple[str, str, str, str]:
    """Return project, name, tag and hash of [project/]name[@hash][:tag]."""
    project, separator, name = uri.partition("/")
    if not separator:
        project, name = default_project, uri
    name, _, tag = name.partition(":")
    name, _, digest = name.partition("@")
    return project, name, tag, digest


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
