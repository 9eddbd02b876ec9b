"""Files that are at a URL: read piece by piece, or written here and stored when they are closed."""

from __future__ import annotations

import io
import os

from millrace import _channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from millrace._data import DataItem


def open_item(item: DataItem, mode: str, **options: Any) -> IO[Any]:
    """Open an item of a store other than the file system."""
    binary = "b" in mode
    kind = set(mode) & set("rwxa+")
    if len(set(mode) - set("rwxabt+")) or "+" in kind or "a" in kind or not kind:
        raise ValueError("%s cannot be opened with mode %r; use r, w or x, with b or t" % (item.artifact_url, mode))
    if "x" in kind and item.exists():
        raise FileExistsError("%s is there already" % item.artifact_url)
    if "r" in kind:
        raw: io.RawIOBase = _Held(item.get()) if item.kind == "memory" else _Reader(item.url, item._secrets)
        reader = io.BufferedReader(raw, 1 << 20)
        return reader if binary else io.TextIOWrapper(reader, **options)
    writer = _Writer(item)
    return writer if binary else _TextWriter(writer, **options)


class _Held(io.RawIOBase):
    """Bytes of this process."""

    def __init__(self, data: Any) -> None:
        if not isinstance(data, (bytes, bytearray)):
            raise TypeError("what memory:// holds there is %s, not bytes" % type(data).__name__)
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


class _Reader(io.RawIOBase):
    """An object, read from where the position is; a seek begins a new request."""

    def __init__(self, url: str, secrets: dict[str, str] | None) -> None:
        self._url = url
        self._secrets = secrets
        self._at = 0
        self._size: int | None = None
        self._pieces: Iterator[bytes] | None = None
        self._left = b""
        self._pieces = _channel.stream(url, secrets=secrets)
        self._left = next(self._pieces, b"")  # an object that is not there is said at once

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._pieces is None:
            self._pieces = _channel.stream(self._url, None, self._at, self._secrets)
        if not self._left:
            self._left = next(self._pieces, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 1:
            offset += self._at
        elif whence == 2:
            if self._size is None:
                self._size = _channel.head(self._url, self._secrets)["size"] or 0
            offset += self._size
        if offset < 0:
            raise ValueError("%s: a position cannot be negative" % self._url)
        if offset != self._at:
            self._at, self._pieces, self._left = offset, None, b""
        return offset


class _Writer(io.BufferedWriter):
    """A temporary file that becomes the object when it is closed, unless an exception leaves its with block."""

    def __init__(self, item: DataItem) -> None:
        from tempfile import mkstemp

        descriptor, self._path = mkstemp(prefix="millrace-")
        self._item: DataItem | None = item
        super().__init__(io.FileIO(descriptor, "w"))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self.give_up()
        self.close()

    def give_up(self) -> None:
        """Store nothing on close."""
        self._item = None

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        try:
            item, self._item = self._item, None
            if item is not None:
                item.upload(self._path)
        finally:
            os.unlink(self._path)


class _TextWriter(io.TextIOWrapper):
    def __init__(self, writer: _Writer, **options: Any) -> None:
        super().__init__(writer, **options)
        self._writer = writer

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self._writer.give_up()
        self.close()
