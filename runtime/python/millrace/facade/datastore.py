"""Data items."""

from __future__ import annotations

from typing import Any

from millrace import _context
from millrace._data import DataItem

__all__ = ["DataItem", "StoreManager", "is_store_uri", "store_manager"]


class StoreManager:
    """Gives data items by URL."""

    def object(self, url: str = "", key: str = "", project: str = "", **options: Any) -> DataItem:
        """Return the data at url; the further arguments of mlrun's method are not needed here."""
        return _context.current("").get_dataitem(url)


store_manager = StoreManager()


def is_store_uri(url: str) -> bool:
    """Say whether url is a store:// URI."""
    return url.startswith("store://")
