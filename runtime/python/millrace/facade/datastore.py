"""Data items."""

from __future__ import annotations

from typing import Any

from millrace import _facade
from millrace._data import DataItem

__all__ = ["DataItem", "StoreManager", "is_store_uri", "parse_store_uri", "store_manager"]
_NAMES = (
    "BigQuerySource", "CSVSource", "CSVTarget", "DatastoreProfile", "HttpSource", "KafkaSource", "KafkaTarget",
    "NoSqlTarget", "ParquetSource", "ParquetTarget", "RedisNoSqlTarget", "SQLSource", "SQLTarget", "StreamSource",
    "StreamTarget", "TSDBTarget", "get_store_resource", "get_target_driver", "kind_to_driver",
    "register_temporary_client_datastore_profile",
)  # fmt: skip


class StoreManager:
    """Gives data items by URL."""

    def object(
        self, url: str = "", key: str = "", project: str = "", allow_empty_resources: bool | None = None,
        secrets: dict[str, str] | None = None,
    ) -> DataItem:  # fmt: skip
        """Return the data at url, which fails when it is read if there is none; URLs say their project themselves."""
        return DataItem(key, url, secrets=secrets)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(_facade.sentence("store_manager.%s" % name))


store_manager = StoreManager()


def is_store_uri(url: str) -> bool:
    """Say whether url is a store:// URI."""
    return url.startswith("store://")


def parse_store_uri(uri: str) -> tuple[str | None, str]:
    """Return the kind that a store:// URI names and what follows it; None and "" for other URLs."""
    prefixes = _facade.load("mlrun.utils").StorePrefix
    if not is_store_uri(uri):
        return None, ""
    path = uri[len("store://") :]
    kind, _, rest = path.partition("/")
    return (kind, rest) if prefixes.is_prefix(kind) else (prefixes.Artifact, path)


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
