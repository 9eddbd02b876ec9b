"""One function calls another of its project, by the socket that that one serves."""

from __future__ import annotations

import json
import os
import socket
from http.client import HTTPConnection

from millrace import _response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OWN = {"host", "content-length", "connection", "transfer-encoding"}  # of the connection


def call(name: str, event: Any, timeout: float | None) -> _response.Response:
    """Send event to the function name and return its response."""
    connection = _Connection(_folder(name), timeout)
    body = event.body
    headers = {str(key): str(value) for key, value in (event.headers or {}).items()}
    headers = {key: value for key, value in headers.items() if key.lower() not in _OWN}
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    elif event.content_type:
        headers.setdefault("Content-Type", str(event.content_type))
    if isinstance(body, str):
        body = body.encode()
    headers["X-Nuclio-Target"] = name
    try:
        connection.request(event.method or ("POST" if body else "GET"), event.path or "/", body=body, headers=headers)
        answer = connection.getresponse()
        data: Any = answer.read()
    finally:
        connection.close()
    told = {key.lower(): value for key, value in answer.getheaders()}
    content_type = told.get("content-type", "text/plain")
    if content_type.partition(";")[0].strip() == "application/json":
        data = json.loads(data)
    return _response.Response(headers=told, body=data, content_type=content_type, status_code=answer.status)


def _folder(name: str) -> str:
    """Find the folder of a deployed function by its name, or by its project's and its own as Nuclio knows it."""
    functions = os.environ.get("MILLRACE_FUNCTIONS", "")
    project = os.path.basename(functions)
    for own in (name, name[len(project) + 1 :] if project and name.startswith(project + "-") else ""):
        if own and os.sep not in own and os.path.exists(os.path.join(functions, own, "http.sock")):
            return os.path.join(functions, own)
    raise ConnectionError("the function %s is not deployed in the project %s" % (name, project or "of this function"))


class _Connection(HTTPConnection):
    def __init__(self, folder: str, timeout: float | None) -> None:
        super().__init__("function", timeout=timeout)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:  # by way of /proc, where no path is too long for a socket
            self.sock.connect("/proc/self/fd/%d/http.sock" % folder)
        except OSError as error:
            raise ConnectionError("the function %s does not serve" % os.path.basename(self._folder)) from error
        finally:
            os.close(folder)
