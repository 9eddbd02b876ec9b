"""Where in the log the output of a call is, when other processes write to it as well.

Imported only when the host asks for it. Standard output and error are put on files
that note where each of their writes ended: the descriptors belong to this process
and its children alone, so their position is the end of what was written last.
"""

from __future__ import annotations

import posix
import sys
from _io import BufferedWriter, FileIO, TextIOWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX = 64  # parts of a call; what comes after them makes the last one longer
_SEEK_CUR = 1
_parts: list[int] = []  # where each part begins and ends, one after the other


class _File(FileIO):
    """A descriptor of the log."""

    def write(self, data: Any, /) -> int:
        """Write data and note where it is."""
        written = super().write(data)
        try:
            end = posix.lseek(self.fileno(), 0, _SEEK_CUR)
        except OSError:
            return written  # user code has put something else there
        if _parts and (_parts[-1] == end - written or len(_parts) >= 2 * _MAX):
            _parts[-1] = end
        else:
            _parts.extend((end - written, end))
        return written


def install() -> None:
    """Put standard output and error on files that note what is written."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        old: Any = getattr(sys, name)
        if old is None:
            continue
        old.flush()
        new: Any = TextIOWrapper(
            BufferedWriter(_File(descriptor, "w", closefd=False)),
            encoding=old.encoding,
            errors=old.errors,
            newline="\n",
            line_buffering=True,
        )
        new.mode = "w"
        setattr(sys, name, new)
        setattr(sys, "__%s__" % name, new)


def begin() -> None:
    """Begin a call."""
    _parts.clear()


def parts() -> list[int]:
    """Return where what was written since begin is."""
    return list(_parts)
