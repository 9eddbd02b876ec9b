"""The run's context."""

from millrace._context import MLClientCtx

__all__ = ["MLClientCtx"]
