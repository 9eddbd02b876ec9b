"""The errors of mlrun, for code that raises or catches them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from millrace import _facade


class MLRunBaseError(Exception):
    """The base of the errors below."""


class MLRunHTTPError(MLRunBaseError):
    """A failed request."""

    def __init__(self, *args: Any, response: Any = None, status_code: int | None = None, **_options: Any) -> None:
        super().__init__(*args)
        self.response = response
        self.error_status_code = status_code


class MLRunHTTPStatusError(MLRunHTTPError):
    """A failure with a status of its own."""

    error_status_code: int | None = None

    def __init__(self, *args: Any, response: Any = None, **options: Any) -> None:
        super().__init__(*args, response=response, status_code=type(self).error_status_code, **options)


class MLRunUnauthorizedError(MLRunHTTPStatusError):
    """Status unauthorized."""

    error_status_code = HTTPStatus.UNAUTHORIZED.value


class MLRunAccessDeniedError(MLRunHTTPStatusError):
    """Status forbidden."""

    error_status_code = HTTPStatus.FORBIDDEN.value


class MLRunNotFoundError(MLRunHTTPStatusError):
    """Status not found."""

    error_status_code = HTTPStatus.NOT_FOUND.value


class MLRunBadRequestError(MLRunHTTPStatusError):
    """Status bad request."""

    error_status_code = HTTPStatus.BAD_REQUEST.value


class MLRunMethodNotAllowedError(MLRunHTTPStatusError):
    """Status method not allowed."""

    error_status_code = HTTPStatus.METHOD_NOT_ALLOWED.value


class MLRunUnprocessableEntityError(MLRunHTTPStatusError):
    """Status unprocessable entity."""

    error_status_code = HTTPStatus.UNPROCESSABLE_ENTITY.value


class MLRunInvalidArgumentError(MLRunHTTPStatusError, ValueError):
    """Status bad request."""

    error_status_code = HTTPStatus.BAD_REQUEST.value


class MLRunInvalidArgumentTypeError(MLRunHTTPStatusError, TypeError):
    """Status bad request."""

    error_status_code = HTTPStatus.BAD_REQUEST.value


class MLRunConflictError(MLRunHTTPStatusError):
    """Status conflict."""

    error_status_code = HTTPStatus.CONFLICT.value


class MLRunPreconditionFailedError(MLRunHTTPStatusError):
    """Status precondition failed."""

    error_status_code = HTTPStatus.PRECONDITION_FAILED.value


class MLRunIncompatibleVersionError(MLRunHTTPStatusError):
    """Status bad request."""

    error_status_code = HTTPStatus.BAD_REQUEST.value


class MLRunInternalServerError(MLRunHTTPStatusError):
    """Status internal server error."""

    error_status_code = HTTPStatus.INTERNAL_SERVER_ERROR.value


class MLRunNotImplementedServerError(MLRunHTTPStatusError):
    """Status not implemented."""

    error_status_code = HTTPStatus.NOT_IMPLEMENTED.value


class MLRunServiceUnavailableError(MLRunHTTPStatusError):
    """Status service unavailable."""

    error_status_code = HTTPStatus.SERVICE_UNAVAILABLE.value


class MLRunRuntimeError(MLRunHTTPStatusError, RuntimeError):
    """Status internal server error."""

    error_status_code = HTTPStatus.INTERNAL_SERVER_ERROR.value


class MLRunTimeoutError(MLRunHTTPStatusError, TimeoutError):
    """Status gateway timeout."""

    error_status_code = HTTPStatus.GATEWAY_TIMEOUT.value


class MLRunMissingDependencyError(MLRunInternalServerError):
    """A package is not installed."""


class MLRunMissingProjectError(MLRunBadRequestError):
    """No project was given."""


class MLRunValueError(ValueError):
    """A value of the right type that is wrong."""


class MLRunTaskNotReadyError(MLRunBaseError):
    """A task has not ended yet."""


MLRunTaskNotReady = MLRunTaskNotReadyError


class MLRunTaskCancelledError(Exception):
    """The task was cancelled."""


class MLRunFatalFailureError(Exception):
    """Trying again is of no use."""

    def __init__(self, *args: Any, original_exception: BaseException) -> None:
        super().__init__(*args)
        self.original_exception = original_exception


def err_to_str(err: BaseException | None) -> str:
    """Return the text of an error with those of its causes."""
    from millrace._errors import text_of

    return text_of(err) if err is not None else ""


def __getattr__(name: str) -> Any:
    return _facade.submodule(__name__, name)
