"""Names of tasks and runs as clients see them, which are not here: modules that mention them can be imported."""

from __future__ import annotations

from typing import Any

from millrace import _facade

_NAMES = (
    "EntrypointParam", "FunctionEntrypoint", "HyperParamOptions", "HyperParamStrategies", "ModelObj", "NewTask",
    "Notification", "RunMetadata", "RunObject", "RunSpec", "RunStatus", "RunTemplate", "TargetPathObject", "new_task",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    return _facade.absent(__name__, name, _NAMES)
