"""The content of artifacts: written once, measured in the same pass, never seen half.

A local file is written beside its place and renamed; what is elsewhere goes
through the data channel, which gives the same promise.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from itertools import count
from stat import S_ISREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK = 1 << 20
# Begins the names of what is not complete. Listings leave such names out, and the server removes them when their
# writer was killed.
_PART = ".millrace-part-"
_serial = count()


class Place:
    """Where content goes: to target, or, without one, into folder under the SHA-1 of the content and suffix."""

    def __init__(self, target: str = "", folder: str = "", suffix: str = "") -> None:
        self.target = target
        self.folder = folder
        self.suffix = suffix

    def of(self, sha1: str) -> str:
        """Return the path for content with this hash."""
        return self.target or "%s/%s%s" % (self.folder.rstrip("/"), sha1, self.suffix)

    @property
    def remote(self) -> bool:
        """Whether it is not a path of this machine."""
        return "://" in (self.target or self.folder)


class Written:
    """What was written: where, its size in bytes, its SHA-1 and its digest ("sha256:<hex>")."""

    def __init__(self, target: str, size: int, sha1: str, digest: str) -> None:
        self.target = target
        self.size = size
        self.sha1 = sha1
        self.digest = digest


class Meter:
    """Counts and hashes what passes."""

    def __init__(self) -> None:
        self.size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        """Take the next piece."""
        self.size += len(chunk)
        self._sha1.update(chunk)
        self._sha256.update(chunk)

    def written(self, target: str) -> Written:
        """Return what passed, as written to target."""
        return Written(target, self.size, self._sha1.hexdigest(), "sha256:" + self._sha256.hexdigest())


def put(data: bytes, place: Place) -> Written:
    """Write bytes."""
    meter = Meter()
    meter.update(data)
    sha1 = meter.written("").sha1
    target = place.of(sha1)
    if "://" in target:
        _put_remote(target, data)
    elif place.target or not _holds(target, data):
        with beside(target) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, target)
    return meter.written(target)


def _holds(path: str, data: bytes) -> bool:
    """Whether a file has just these bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False


def put_file(source: str, place: Place) -> Written:
    """Copy a file, unless it is there already; source stays."""
    if place.remote:
        written = measure(source)
        written.target = place.of(written.sha1)
        _copy_remote(os.path.abspath(source), written.target, recursive=False)
        return written
    if place.target and os.path.exists(place.target) and os.path.samefile(source, place.target):
        return measure(source)
    with beside(place.target or place.folder + "/x") as temporary:
        meter = _copy(source, temporary)
        target = place.of(meter.written("").sha1)
        os.replace(temporary, target)
    return meter.written(target)


def made(write: Callable[[str], None], place: Place, extension: str) -> Written:
    """Let write make a file at a path that it is given, and put that file in its place."""
    if place.remote:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="millrace-") as folder:
            path = os.path.join(folder, "content" + extension)
            write(path)
            return put_file(path, place)
    with beside(place.target or place.folder + "/x", extension) as temporary:
        write(temporary)
        written = measure(temporary)
        written.target = place.of(written.sha1)
        os.replace(temporary, written.target)
    return written


def put_tree(source: str, place: Place) -> tuple[Written, list[str]]:
    """Copy a folder and all that is below it; return also the paths below it.

    Its hash is that of the list of its files, a line "<hash>  <path>" for each;
    it has no digest.
    """
    names = sorted(files_of(source))
    same = bool(place.target) and os.path.isdir(place.target) and os.path.samefile(source, place.target)
    if place.remote or same:
        written = _sum(names, [measure(os.path.join(source, name)) for name in names], place)
        if not same:
            _copy_remote(os.path.abspath(source), written.target, recursive=True)
        return written, names
    with beside((place.target or place.folder + "/x").rstrip("/")) as temporary:
        os.mkdir(temporary)
        parts = []
        for name in names:
            path = os.path.join(temporary, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            parts.append(_copy(os.path.join(source, name), path).written(""))
        written = _sum(names, parts, place)
        target = written.target.rstrip("/")
        if not (place.target == "" and os.path.isdir(target)):
            if os.path.isdir(target):
                with beside(target) as before:  # a folder that is killed while it is removed would be there in part
                    os.rename(target, before)
                    os.replace(temporary, target)
            else:
                os.replace(temporary, target)
    return written, names


def _sum(names: list[str], parts: list[Written], place: Place) -> Written:
    sha1 = hashlib.sha1(usedforsecurity=False)
    for name, part in zip(names, parts):
        sha1.update(("%s  %s\n" % (part.sha1, name)).encode("utf-8", "surrogateescape"))
    target = place.of(sha1.hexdigest()).rstrip("/") + "/"
    return Written(target, sum(part.size for part in parts), sha1.hexdigest(), "")


def measure(path: str) -> Written:
    """Measure a file where it is."""
    return _copy(path, "").written(path)


def files_of(folder: str, below: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of the files below a folder, relative to it. Links are followed, but not in a circle."""
    real = os.path.realpath(os.path.join(folder, below))
    if real in above:
        raise ValueError("the folder %s contains itself, by the link %s" % (folder, below))
    with os.scandir(os.path.join(folder, below)) as found:
        for entry in found:
            if entry.name.startswith(_PART):
                continue
            name = os.path.join(below, entry.name)
            if entry.is_dir():
                yield from files_of(folder, name, (*above, real))
            elif S_ISREG(entry.stat().st_mode):
                yield name
            else:
                raise ValueError("%s is neither a file nor a folder, so it cannot be stored" % entry.path)


class beside:  # noqa: N801
    """A path beside target, in a folder that is made; what is left there at the end is removed."""

    def __init__(self, target: str, extension: str = "") -> None:
        self._target = target
        folder = os.path.dirname(target)
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, "%s%d-%d%s" % (_PART, os.getpid(), next(_serial), extension))

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            error.filename = self._target  # a write that finds no room does not say where
        if os.path.isdir(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            try:
                os.unlink(self.path)
            except OSError:
                pass


def _copy(source: str, target: str) -> Meter:
    meter = Meter()
    if not S_ISREG(os.stat(source).st_mode):
        raise ValueError("%s is not a file, so it cannot be stored" % source)
    with open(source, "rb") as reader, open(target or os.devnull, "wb") as writer:
        for chunk in iter(lambda: reader.read(_CHUNK), b""):
            meter.update(chunk)
            writer.write(chunk)
    return meter


def _put_remote(target: str, data: bytes) -> None:
    if target.startswith("memory://"):
        from millrace._data import MEMORY

        MEMORY[target] = data
        return
    from millrace import _channel

    _channel.put(target, data, len(data))


def _copy_remote(source: str, target: str, recursive: bool) -> None:
    if target.startswith("memory://"):
        from millrace._data import MEMORY

        for name in files_of(source) if recursive else ("",):
            with open(os.path.join(source, name) if name else source, "rb") as file:
                MEMORY[target + name] = file.read()
        return
    from millrace import _channel

    _channel.copy("file://" + source, target, recursive)
