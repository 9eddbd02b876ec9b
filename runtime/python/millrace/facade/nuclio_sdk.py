"""What handlers of events are given, by the names of the package that functions of Nuclio import."""

from __future__ import annotations

from millrace._event import Event, TriggerInfo
from millrace._eventcontext import Context, Logger, Platform
from millrace._response import Response

__all__ = ["Context", "Event", "Logger", "Platform", "Response", "TriggerInfo"]
