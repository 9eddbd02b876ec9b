"""Secrets of the run and of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import millrace
from millrace import _facade

__all__ = ["get_secret_or_env"]


def get_secret_or_env(
    key: str, secret_provider: Callable[[str], str | None] | dict[str, str] | None = None,
    default: str | None = None, prefix: str | None = None,
) -> str | None:  # fmt: skip
    """Return a secret by its key: of the provider, of the run, of the environment; else default. Empty is absent."""
    name = "%s_%s" % (prefix, key) if prefix else key
    provider: Any = secret_provider.get if isinstance(secret_provider, dict) else secret_provider
    found = provider(name) if provider is not None else None
    return found or millrace.get_context().get_secret(name) or os.environ.get(name) or default


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
