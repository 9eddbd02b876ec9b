"""The data channel: what is behind a URL, through the runner or processor beside this process.

It serves HTTP on a unix socket that MILLRACE_DATA_SOCKET names; it has the
credentials and the clients of the stores (docs/protocol.md, "The data channel").
Failures are the usual exceptions of files with the runner's sentence: a missing
object is FileNotFoundError, a refused one PermissionError, anything else OSError,
and what cannot be asked for at all ValueError. Where secrets may be given, they
are credentials that come before those of the run.
"""

from __future__ import annotations

import os
import socket
from http.client import HTTPConnection, HTTPException

from millrace import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse
    from typing import IO, Any, Optional

    Secrets = Optional[dict[str, str]]

_CHUNK = 1 << 20


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("runner")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def available() -> bool:
    """Say whether this process has a data channel."""
    return bool(os.environ.get("MILLRACE_DATA_SOCKET"))


def get(url: str, size: int | None = None, offset: int = 0) -> bytes:
    """Return the object, or size bytes of it (all if None) from offset on."""
    if size == 0:
        return b""
    return b"".join(stream(url, size, offset))


def stream(url: str, size: int | None = None, offset: int = 0, secrets: Secrets = None) -> Iterator[bytes]:
    """Yield the object, or a part of it, in pieces. A range that begins at its end or after it is empty."""
    headers = {}
    if offset or size is not None:
        headers["Range"] = "bytes=%d-%s" % (offset, "" if size is None else offset + size - 1)
    response = _request("GET", "/v1/object", {"url": url}, headers=_with(secrets, headers), accept=(416,))
    with response:
        if response.status == 416:
            return
        # A server may ignore a range and answer with the whole.
        skip = offset if headers and response.status == 200 else 0
        left, got = size, 0
        announced = response.headers.get("Content-Length")
        try:
            while left is None or left > 0:
                chunk = response.read(_CHUNK)
                if not chunk:
                    break
                got += len(chunk)
                if skip:
                    chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                if left is not None:
                    chunk = chunk[:left]
                    left -= len(chunk)
                if chunk:
                    yield chunk
        except HTTPException as error:
            raise OSError("reading %s broke off after %d bytes: %s" % (url, got, error)) from None
        if announced is not None and got < int(announced) and (left is None or left > 0):
            raise OSError("reading %s broke off after %d of %s bytes" % (url, got, announced))


def head(url: str, secrets: Secrets = None) -> dict[str, Any]:
    """Return what is known about an object: size, modified (seconds since 1970), content_type, digest."""
    response = _request("HEAD", "/v1/object", {"url": url}, headers=_with(secrets, {}))
    with response:
        headers = response.headers
        modified = None
        if headers.get("Last-Modified"):
            from email.utils import parsedate_to_datetime

            modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
        length = headers.get("Content-Length")
        return {
            "size": int(length) if length else None,
            "modified": modified,
            "content_type": headers.get("Content-Type"),
            "digest": headers.get("X-Millrace-Digest"),
        }


def put(url: str, content: bytes | IO[bytes], size: int, secrets: Secrets = None) -> dict[str, Any]:
    """Store content; return its url, size, digest and sha1. Nothing can be seen of it before it is complete."""
    return _answer("PUT", "/v1/object", {"url": url}, content, _with(secrets, {"Content-Length": str(size)}))


def copy(source: str, target: str, recursive: bool = False, secrets: Secrets = None) -> dict[str, Any]:
    """Copy an object or a folder; return files, size, digest and sha1."""
    body = _json.dumps({"from": source, "to": target, "recursive": recursive}).encode()
    return _answer("POST", "/v1/copy", {}, body, _with(secrets, {"Content-Type": "application/json"}))


def entries(url: str, recursive: bool = False, secrets: Secrets = None) -> list[dict[str, Any]]:
    """Return what is in a folder: dicts of name, size, modified and dir."""
    query = {"url": url, "recursive": "1" if recursive else "0"}
    found = _answer("GET", "/v1/list", query, headers=_with(secrets, {})).get("entries")
    return list(found or ())


def delete(url: str, recursive: bool = False, secrets: Secrets = None) -> None:
    """Delete an object, or a folder with all that is in it."""
    query = {"url": url, "recursive": "1" if recursive else "0"}
    with _request("DELETE", "/v1/object", query, headers=_with(secrets, {})) as response:
        response.read()


def artifact(uri: str) -> dict[str, Any]:
    """Return the document of the artifact that a store:// URI names."""
    return _answer("GET", "/v1/artifact", {"uri": uri})


def record(project: str, said: dict[str, Any]) -> None:
    """Have an artifact of a run recorded: said is what the run emits about it."""
    body = _json.dumps(
        {"project": project, "iter": said.get("iter") or 0, "key": said.get("key"), "doc": said.get("doc")}
    )
    query = {"key": str(said.get("key") or "")}
    _answer("PUT", "/v1/artifact", query, body.encode(), {"Content-Type": "application/json"})


def results(run: dict[str, Any]) -> None:
    """Have what a run has said recorded with it: run is its document. A run that nobody has stored is passed over."""
    metadata, status = run.get("metadata") or {}, run.get("status") or {}
    said: dict[str, Any] = {"project": metadata.get("project") or "default", "uid": metadata.get("uid")}
    said.update(iter=metadata.get("iteration") or 0, results=status.get("results") or {})
    said.update(artifacts=status.get("artifact_uris") or {})
    _answer("PUT", "/v1/results", {}, _json.dumps(said).encode(), {"Content-Type": "application/json"})


def secret(key: str) -> str | None:
    """Return a secret that the function names; None if there is none."""
    response = _request("GET", "/v1/secret", {"key": key}, accept=(404,))
    with response:
        if response.status == 404:
            return None
        value = _json.loads(response.read().decode()).get("value")
        return None if value is None else str(value)


def _with(secrets: Secrets, headers: dict[str, str]) -> dict[str, str]:
    if not secrets:
        return headers
    from base64 import b64encode

    return dict(headers, **{"X-Millrace-Secrets": b64encode(_json.dumps(secrets).encode()).decode()})


def _answer(
    method: str,
    route: str,
    query: dict[str, str],
    body: bytes | IO[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    with _request(method, route, query, body, headers) as response:
        found = _json.loads(response.read().decode() or "{}")
    return dict(found)


def _request(
    method: str,
    route: str,
    query: dict[str, str],
    body: bytes | IO[bytes] | None = None,
    headers: dict[str, str] | None = None,
    accept: tuple[int, ...] = (),
) -> HTTPResponse:
    from urllib.parse import urlencode

    path = os.environ.get("MILLRACE_DATA_SOCKET")
    what = "the run" if route == "/v1/results" else "the copy"
    subject = query.get("url") or query.get("uri") or query.get("key") or what
    if not path:
        raise ValueError(
            "%s cannot be reached: this process has no data channel; handlers in Python have one, in runs and in "
            "deployed functions, programs of their own have none" % subject
        )
    connection = _Connection(path)
    target = route + ("?" + urlencode(query) if query else "")
    try:
        try:
            connection.request(method, target, body, headers or {})
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was refused before everything was read, and why is said
        response = connection.getresponse()
    except (OSError, HTTPException) as error:
        connection.close()
        raise OSError("%s cannot be reached: the data channel failed: %s" % (subject, error)) from None
    if response.status < 400 or response.status in accept:
        return response
    with response:
        raise _failure(response, subject)


def _failure(response: HTTPResponse, subject: str) -> Exception:
    try:
        said = _json.loads(response.read().decode()).get("error")
    except Exception:
        said = None
    text = str(said or "%s: the data channel answered with status %d" % (subject, response.status))
    if response.status in (404, 410):
        return FileNotFoundError(text)
    if response.status in (401, 403, 405):
        return PermissionError(text)
    return ValueError(text) if response.status in (400, 422, 501) else OSError(text)
