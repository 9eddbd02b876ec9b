"""Data items: what is at a URL.

Files of this machine are read and written here; memory:// is kept in this
process; everything else, store:// URIs included, goes through the runner's data
channel. Without a runner http:// and https:// are read directly.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from millrace._artifacts import Artifact

_CHUNK = 1 << 20
_STORES = ("http", "https", "s3", "gs", "gcs", "az", "wasb", "wasbs")

# What memory:// URLs hold.
MEMORY: dict[str, Any] = {}


class FileStats:
    """Size in bytes, time of the last change (seconds since 1970, or None) and content type, if known."""

    def __init__(self, size: int | None, modified: float | None, content_type: str | None = None) -> None:
        self.size = size
        self.modified = modified
        self.content_type = content_type

    def __repr__(self) -> str:
        return "FileStats(size=%s, modified=%s, content_type=%s)" % (self.size, self.modified, self.content_type)


class DataItem:
    """What is at a URL.

    base is what a relative URL is relative to; seen is called once, before the
    first content is handed out, with the item, its size and its digest
    ("sha256:<hex>"), each None if it is not known; secrets are credentials by their
    names, which come before those of the run.
    """

    def __init__(
        self,
        key: str,
        url: str,
        base: str = "",
        seen: Callable[[DataItem, int | None, str | None], None] | None = None,
        secrets: dict[str, Any] | None = None,
    ) -> None:
        self.key = key
        self.url_given = url
        url = os.fspath(url)
        if base and "://" not in url and not os.path.isabs(url):
            url = base.rstrip("/") + "/" + url
        self.artifact_url = url
        self._seen = seen
        self._secrets: dict[str, str] | None = None
        if secrets:
            from millrace import _secrets

            self._secrets = _secrets.given(url, secrets)
        self._local = ""
        self._meta: Artifact | None = None
        self._target = "" if url.startswith("store://") else url

    @property
    def url(self) -> str:
        """The URL; of a store:// URI, where the artifact's content is."""
        if not self._target:
            artifact = self.meta
            if artifact is None or not artifact.target_path:
                raise FileNotFoundError("%s has no content of its own" % self.artifact_url)
            self._target = artifact.target_path
        return self._target

    @property
    def meta(self) -> Artifact | None:
        """The artifact, if the item was reached through a store:// URI."""
        if self._meta is None and self.artifact_url.startswith("store://"):
            from millrace import _channel
            from millrace._artifacts import Artifact

            self._meta = Artifact.from_dict(_channel.artifact(self.artifact_url))
        return self._meta

    @property
    def kind(self) -> str:
        """The scheme of the URL; "file" for paths."""
        scheme, separator, _ = self.url.partition("://")
        # A drive letter is not a scheme.
        return scheme.lower() if separator and len(scheme) > 1 else "file"

    @property
    def _path(self) -> str:
        path = self.url
        if path.lower().startswith("file://"):
            path = path[len("file://") :]
            if path.startswith("localhost/"):
                path = path[len("localhost") :]
        return path

    @property
    def suffix(self) -> str:
        """The extension of the path with its dot."""
        return os.path.splitext(self.url.partition("?")[0] if self.kind != "file" else self._path)[1]

    @property
    def store(self) -> DataItem:
        """The item itself, which does what MLRun's stores do."""
        return self

    def get_artifact_type(self) -> str | None:
        """Return artifacts, datasets, models, documents or llm-prompts for a store:// URI."""
        return self.meta.prefix if self.meta is not None else None

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return "DataItem(%r)" % self.artifact_url

    # -- reading

    def get(self, size: int | None = None, offset: int = 0, encoding: str | None = None) -> Any:
        """Return the content as bytes, or as text of an encoding; size and offset are in bytes."""
        offset = offset or 0
        if offset < 0 or (size is not None and size < 0):
            raise ValueError("%s: size and offset of what is read cannot be negative" % self.artifact_url)
        whole = size is None and not offset
        if self.kind == "memory":
            data = self._memory()
            if not isinstance(data, bytes):
                return data
            data = data[offset:] if size is None else data[offset : offset + size]
        else:
            if not whole:
                self._note()
            data = b"".join(self._read(size, offset))
            if whole:
                self._note(data)
        return data.decode(encoding) if encoding else data

    def _read(self, size: int | None = None, offset: int = 0) -> Iterator[bytes]:
        if self.kind == "file":
            if os.path.isdir(self._path):
                raise IsADirectoryError("%s is a folder; listdir() says what is in it" % self.artifact_url)
            with open(self._path, "rb") as file:
                file.seek(offset)
                if size is not None:
                    yield file.read(size)
                    return
                yield from iter(lambda: file.read(_CHUNK), b"")
            return
        if self._direct():
            with self._request() as response:
                data = response.read()
            yield data[offset:] if size is None else data[offset : offset + size]
            return
        from millrace import _channel

        yield from _channel.stream(self.url, size, offset, self._secrets)

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open the content as a file. What is written to another store is there once the file is closed."""
        if self.kind == "file":
            if not set(mode) & set("wax+"):
                self._note()
            return open(self._path, mode, **options)
        if set(mode) & set("wax+"):
            self._writable("opening with mode %r" % mode)
        if self._direct():
            return open(self.local(), mode, **options)
        from millrace import _remote

        if not set(mode) & set("wax+"):
            self._note()
        return _remote.open_item(self, mode, **options)

    def local(self) -> str:
        """Return the path of a local copy, which is the file itself if it is local."""
        if self.kind == "file":
            self._note()
            return self._path
        if not self._local:
            from tempfile import mkstemp

            descriptor, path = mkstemp(suffix=self.suffix, prefix="millrace-")
            os.close(descriptor)
            try:
                self.download(path)
            except BaseException:
                os.unlink(path)
                raise
            self._local = path
        return self._local

    def remove_local(self) -> None:
        """Delete the downloaded copy, if there is one."""
        if self._local:
            os.unlink(self._local)
            self._local = ""

    def download(self, target_path: str) -> None:
        """Copy the content to a local path; that is there only once it is complete."""
        from millrace import _content

        if self.kind == "memory":
            data = self._memory()
            pieces: Iterator[bytes] = iter([data if isinstance(data, bytes) else str(data).encode()])
        else:
            pieces = self._read()
        meter = _content.Meter()
        with _content.beside(os.path.abspath(target_path)) as temporary:
            with open(temporary, "wb") as file:
                for piece in pieces:
                    meter.update(piece)
                    file.write(piece)
            os.replace(temporary, target_path)
        if self._seen is not None:
            written = meter.written("")
            self._tell(written.size, written.digest)

    def stat(self) -> FileStats:
        """Return size, time of the last change and content type."""
        if self.kind == "file":
            stat = os.stat(self._path)
            return FileStats(stat.st_size, stat.st_mtime)
        if self.kind == "memory":
            return FileStats(len(self._memory()), 0)
        if self._direct():
            with self._request("HEAD") as response:
                length = response.headers.get("Content-Length")
                return FileStats(int(length) if length else None, None, response.headers.get("Content-Type"))
        from millrace import _channel

        found = _channel.head(self.url, self._secrets)
        return FileStats(found["size"], found["modified"], found["content_type"])

    def exists(self) -> bool:
        """Say whether there is something at the URL."""
        if self.kind == "file":
            return os.path.exists(self._path)
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def listdir(self) -> list[str]:
        """Return the paths of the files below a folder, relative to it, sorted."""
        if self.kind == "file":
            from millrace import _content

            if not os.path.isdir(self._path):
                raise NotADirectoryError("%s is not a folder" % self.artifact_url)
            return sorted(_content.files_of(self._path))
        if self.kind == "memory":
            base = self.url.rstrip("/") + "/"
            return sorted(url[len(base) :] for url in MEMORY if url.startswith(base))
        if self.kind in ("http", "https"):
            raise NotADirectoryError("%s cannot be listed: http has no folders" % self.artifact_url)
        self._supported()
        from millrace import _channel

        return sorted(
            entry["name"] for entry in _channel.entries(self.url, True, self._secrets) if not entry.get("dir")
        )

    ls = listdir

    def as_df(
        self,
        columns: list[str] | None = None,
        df_module: Any = None,
        format: str = "",
        time_column: str | None = None,
        start_time: Any = None,
        end_time: Any = None,
        additional_filters: Any = None,
        **options: Any,
    ) -> Any:
        """Read the data with pandas (or df_module): see millrace._frames.read."""
        from millrace import _frames

        return _frames.read(
            self, columns, df_module, format, time_column, start_time, end_time, additional_filters, options
        )

    def show(self, format: str | None = None) -> None:
        """Show the content in a notebook."""
        from millrace import _frames

        _frames.show(self, format)

    # -- writing

    def put(self, data: bytes | str, append: bool = False) -> None:
        """Replace the content (or, of a local file, append to it), creating folders."""
        if self.kind == "memory":
            held = MEMORY.get(self.url) if append else None
            data = data.encode() if isinstance(data, str) else data
            MEMORY[self.url] = held + data if isinstance(held, bytes) and isinstance(data, bytes) else data
            return
        if not isinstance(data, (bytes, bytearray, memoryview, str)):
            raise TypeError("put takes bytes or text, not %s" % type(data).__name__)
        content = data.encode() if isinstance(data, str) else bytes(data)
        self._writable("put")
        if self.kind != "file":
            if append:
                raise ValueError("%s cannot be appended to; only local files can" % self.artifact_url)
            from millrace import _channel

            _channel.put(self.url, content, len(content), self._secrets)
        elif append:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            with open(self._path, "ab") as file:
                file.write(content)
        else:
            from millrace import _content

            _content.put(content, _content.Place(os.path.abspath(self._path)))

    def upload(self, src_path: str) -> None:
        """Replace the content by that of a local file."""
        self._writable("upload")
        if self.kind in ("file", "memory"):
            from millrace import _content

            path = os.path.abspath(self._path) if self.kind == "file" else self.url
            _content.put_file(src_path, _content.Place(path))
        else:
            from millrace import _channel

            _channel.copy("file://" + os.path.abspath(src_path), self.url, secrets=self._secrets)

    def delete(self) -> None:
        """Delete the file or object."""
        self._writable("delete")
        if self.kind == "file":
            os.unlink(self._path)
        elif self.kind == "memory":
            if MEMORY.pop(self.url, None) is None:
                raise FileNotFoundError("%s does not exist in this process" % self.url)
        else:
            from millrace import _channel

            _channel.delete(self.url, secrets=self._secrets)

    # -- rules

    def _memory(self) -> Any:
        if self.url not in MEMORY:
            raise FileNotFoundError("%s does not exist in this process" % self.url)
        return MEMORY[self.url]

    def _direct(self) -> bool:
        """Say whether http is read without a runner; refuse schemes that nobody reads."""
        self._supported()
        from millrace import _channel

        return self.kind in ("http", "https") and not _channel.available()

    def _supported(self) -> None:
        if self.kind not in ("file", "memory", *_STORES):
            raise ValueError(
                "%s: there is no store for %s://; use a path or file://, s3://, http(s)://, "
                "store:// or memory://" % (self.artifact_url, self.kind)
            )

    def _writable(self, what: str) -> None:
        self._supported()
        if self.kind in ("http", "https"):
            raise PermissionError(
                "%s is not possible on %s: what is behind http can only be read" % (what, self.artifact_url)
            )

    def _request(self, method: str = "GET") -> Any:
        from urllib.request import Request, urlopen

        from millrace import _secrets

        request = Request(self.url, method=method)
        token = (self._secrets or {}).get("HTTPS_AUTH_TOKEN") or _secrets.lookup({}, "HTTPS_AUTH_TOKEN")
        if token and self.kind == "https":
            request.add_unredirected_header("Authorization", "token " + token)
        return urlopen(request, timeout=60)

    # -- provenance

    def _note(self, data: bytes | None = None) -> None:
        """Tell seen what the content is, data if that is at hand."""
        if self._seen is None:
            return
        size: int | None = None
        digest: str | None = None
        try:
            if data is not None:
                from hashlib import sha256

                size, digest = len(data), "sha256:" + sha256(data).hexdigest()
            elif self.kind == "file":
                if os.path.isfile(self._path):
                    size = os.path.getsize(self._path)
            elif not self._direct():
                from millrace import _channel

                found = _channel.head(self.url, self._secrets)
                size, digest = found["size"], found["digest"]
        except (OSError, ValueError):
            pass  # what reads the content says it
        self._tell(size, digest)

    def _tell(self, size: int | None, digest: str | None) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            seen(self, size, digest)
