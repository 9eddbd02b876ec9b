"""Data items."""

from __future__ import annotations

from typing import Any

from millrace import _facade
from millrace._data import DataItem

__all__ = ["DataItem", "StoreManager", "is_store_uri", "store_manager"]


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


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
