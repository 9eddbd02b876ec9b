"""Inputs: data at a URL."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_REMOTE = ("http", "https")


class FileStats:
    """Size in bytes, time of the last change (seconds since 1970, or None) and content type, if known."""

    def __init__(self, size: int | None, modified: float | None, content_type: str | None = None) -> None:
        self.size = size
        self.modified = modified
        self.content_type = content_type


class DataItem:
    """A file of this machine, or one behind http or https. Others are refused when they are used.

    base is what a relative URL is relative to.
    """

    def __init__(self, key: str, url: str, base: str = "") -> None:
        self.key = key
        self.url_given = url
        if base and "://" not in url and not os.path.isabs(url):
            url = base.rstrip("/") + "/" + url
        self.url = url
        self._local = ""
        self._temporary = False
        scheme, separator, rest = url.partition("://")
        # A drive letter is not a scheme.
        self.kind = scheme.lower() if separator and len(scheme) > 1 else "file"
        self._path = rest if separator and self.kind == "file" else url
        if self.kind == "file" and self._path.startswith("localhost/"):
            self._path = self._path[len("localhost") :]

    @property
    def suffix(self) -> str:
        """The extension of the path with its dot."""
        return os.path.splitext(self._path.partition("?")[0])[1]

    @property
    def artifact_url(self) -> str:
        """The URL."""
        return self.url

    @property
    def meta(self) -> None:
        """None: the item was not reached through an artifact's URI."""
        return None

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return "DataItem(%r)" % self.url

    def get(self, size: int | None = None, offset: int = 0, encoding: str | None = None) -> Any:
        """Return the content as bytes, or as text of an encoding; size and offset are in bytes."""
        if self.kind == "file":
            with open(self._path, "rb") as file:
                file.seek(offset or 0)
                data = file.read(-1 if size is None else size)
        else:
            with self._request() as response:
                data = response.read()
            data = data[offset or 0 :]
            data = data if size is None else data[:size]
        return data.decode(encoding) if encoding else data

    def open(self, mode: str = "rb") -> IO[Any]:
        """Open the file; one behind http is downloaded first and can be read only."""
        if self.kind != "file" and set(mode) & set("wax+"):
            raise PermissionError(
                "%s cannot be opened with mode %r: what is behind http can only be read" % (self.url, mode)
            )
        return open(self.local(), mode)

    def local(self) -> str:
        """Return the path of a local copy, which is the file itself if it is local."""
        if self.kind == "file":
            return self._path
        if not self._local:
            from shutil import copyfileobj
            from tempfile import NamedTemporaryFile

            with self._request() as response, NamedTemporaryFile(suffix=self.suffix, delete=False) as file:
                copyfileobj(response, file)
                self._local = file.name
        return self._local

    def remove_local(self) -> None:
        """Delete the downloaded copy, if there is one."""
        if self._local:
            os.unlink(self._local)
            self._local = ""

    def download(self, target_path: str) -> None:
        """Copy the content to a local path."""
        from shutil import copyfile

        copyfile(self.local(), target_path)

    def put(self, data: bytes | str, append: bool = False) -> None:
        """Write the content, creating folders."""
        if not isinstance(data, (bytes, bytearray, str)):
            raise TypeError("put takes bytes or text, not %s" % type(data).__name__)
        self._writable("put")
        folder = os.path.dirname(self._path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(self._path, "ab" if append else "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def upload(self, src_path: str) -> None:
        """Replace the content by that of a local file."""
        with open(src_path, "rb") as file:
            self.put(file.read())

    def delete(self) -> None:
        """Delete the file."""
        self._writable("delete")
        os.unlink(self._path)

    def stat(self) -> FileStats:
        """Return size and time of the last change."""
        if self.kind == "file":
            stat = os.stat(self._path)
            return FileStats(stat.st_size, stat.st_mtime)
        with self._request("HEAD") as response:
            length = response.headers.get("Content-Length")
            return FileStats(int(length) if length else None, None, response.headers.get("Content-Type"))

    def listdir(self) -> list[str]:
        """Return the paths below a folder, relative to it."""
        if self.kind != "file":
            raise NotADirectoryError("%s cannot be listed: http has no folders" % self.url)
        if not os.path.isdir(self._path):
            raise NotADirectoryError("%s is not a folder" % self.url)
        found = []
        for folder, _, files in os.walk(self._path):
            found += [os.path.relpath(os.path.join(folder, file), self._path) for file in files]
        return sorted(found)

    ls = listdir

    def as_df(self, columns: list[str] | None = None, df_module: Any = None, format: str = "", **options: Any) -> Any:
        """Read the data with pandas (or df_module): csv, parquet, json, jsonl, Excel, by format or suffix."""
        pandas = df_module
        if pandas is None:
            try:
                import pandas  # type: ignore[import-untyped,no-redef]
            except ImportError:
                raise ImportError("as_df needs pandas; add pandas to the function's requirements") from None
        kind = (format or self.suffix.lstrip(".")).lower()
        if self.kind == "file" and os.path.isdir(self._path) and not format:
            kind = "parquet"
        path = self.local()
        if kind == "csv":
            return pandas.read_csv(path, usecols=columns, **options) if columns else pandas.read_csv(path, **options)
        if kind in ("parquet", "pq"):
            return pandas.read_parquet(path, columns=columns, **options)
        if kind in ("json", "jsonl"):
            frame = pandas.read_json(path, lines=kind == "jsonl", **options)
        elif kind in ("xls", "xlsx"):
            frame = pandas.read_excel(path, **options)
        else:
            raise ValueError(
                "%s has no format that as_df knows; pass format='csv', 'parquet', 'json', 'jsonl' or 'xlsx'" % self.url
            )
        return frame[columns] if columns else frame

    def _writable(self, what: str) -> None:
        if self.kind != "file":
            self._supported()
            raise PermissionError("%s is not possible on %s: what is behind http can only be read" % (what, self.url))

    def _supported(self) -> None:
        if self.kind not in _REMOTE:
            raise ValueError(
                "%s: the built-in runtime reads files, http:// and https://, not %s://; "
                "add mlrun to the function's requirements and import it for other stores" % (self.url, self.kind)
            )

    def _request(self, method: str = "GET") -> Any:
        self._supported()
        from urllib.request import Request, urlopen

        return urlopen(Request(self.url, method=method), timeout=60)
