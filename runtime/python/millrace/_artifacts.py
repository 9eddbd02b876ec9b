"""Artifacts that are plain files or folders."""

from __future__ import annotations

import hashlib
import os
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

_INLINE_LIMIT = 16 << 20
_CHUNK = 1 << 20


class Artifact:
    """One logged artifact; to_dict() is its document. Give one to log_artifact to set more than its key."""

    kind = "artifact"

    def __init__(
        self,
        key: str = "",
        body: Any = None,
        *,
        viewer: str | None = None,
        is_inline: bool = False,
        format: str | None = None,
        target_path: str = "",
        description: str | None = None,
        src_path: str | None = None,
    ) -> None:
        self.key = key
        self.body = body
        self.description = description
        self.viewer = viewer
        self.is_inline = is_inline
        self.format = format
        self.target_path = target_path
        self.src_path = src_path
        self.project = ""
        self.db_key = ""
        self.tree = ""
        self.iter = 0
        self.tag = ""
        self.labels: dict[str, str] = {}
        self.hash: str | None = None
        self.size: int | None = None
        self.producer: dict[str, Any] = {}
        self.sources: list[dict[str, str]] = []
        self.created = ""
        self.unpackaging_instructions: dict[str, Any] | None = None

    @property
    def uri(self) -> str:
        """The store:// URI."""
        uri = "store://artifacts/%s/%s" % (self.project, self.db_key or self.key)
        if self.iter:
            uri += "#%d" % self.iter
        if self.tag:
            uri += ":" + self.tag
        return "%s@%s" % (uri, self.tree) if self.tree else uri

    def get_target_path(self) -> str:
        """Return where the content is."""
        return self.target_path

    def get_body(self) -> Any:
        """Return the content that was given."""
        return self.body

    def to_dataitem(self) -> Any:
        """Return the content as a DataItem."""
        from millrace._data import DataItem

        return DataItem(self.key, self.target_path)

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        metadata: dict[str, Any] = {
            "key": self.key,
            "project": self.project,
            "iter": self.iter,
            "tree": self.tree,
            "created": self.created,
            "updated": self.created,
        }
        spec: dict[str, Any] = {"target_path": self.target_path, "db_key": self.db_key, "producer": self.producer}
        for part, name, value in (
            (metadata, "description", self.description),
            (metadata, "hash", self.hash),
            (metadata, "tag", self.tag),
            (metadata, "labels", dict(self.labels)),
            (spec, "src_path", self.src_path),
            (spec, "viewer", self.viewer),
            (spec, "format", self.format),
            (spec, "sources", list(self.sources)),
            (spec, "unpackaging_instructions", self.unpackaging_instructions),
        ):
            if value:
                part[name] = value
        if self.size is not None:
            spec["size"] = self.size
        if self.is_inline and self.body is not None:
            spec["inline"] = self.body if isinstance(self.body, str) else bytes(self.body).decode("utf-8", "replace")
        return {
            "kind": self.kind,
            "metadata": metadata,
            "spec": spec,
            "status": {"state": "created"},
            "project": self.project,
        }


class DirArtifact(Artifact):
    """A folder."""

    kind = "dir"


def log(
    context: MLClientCtx,
    item: Any,
    body: Any = None,
    local_path: str | None = None,
    artifact_path: str | None = None,
    tag: str = "",
    viewer: str | None = None,
    target_path: str = "",
    src_path: str | None = None,
    upload: bool | None = None,
    labels: dict[str, Any] | None = None,
    format: str | None = None,
    db_key: str | bool | None = None,
    description: str | None = None,
    is_inline: bool = False,
) -> Artifact:
    """Put the content of an artifact in its place and return what describes it.

    item is the key or an Artifact. The content is body (text or bytes), else the
    file or folder local_path. It goes to target_path if that is given, else to
    <artifact_path>/<run name>/<iteration>/<key><suffix>; an artifact_path that
    begins with "+/" extends the run's. upload=False records without copying.
    """
    source = local_path or src_path or (item.src_path if isinstance(item, Artifact) else None)
    source = _without_scheme(os.fspath(source)) if source else None
    artifact = _artifact(item, source)
    artifact.body = artifact.body if body is None else body
    artifact.viewer = viewer or artifact.viewer
    artifact.format = format or artifact.format
    artifact.description = description or artifact.description
    artifact.is_inline = is_inline or artifact.is_inline
    _check_name("key", artifact.key)
    if tag:
        _check_name("tag", tag)
    if artifact.body is not None and not isinstance(artifact.body, (str, bytes, bytearray, memoryview)):
        raise TypeError(
            "the body of the artifact %r is of type %s; give text or bytes, or a file as local_path"
            % (artifact.key, type(artifact.body).__name__)
        )
    remote = source is not None and "://" in source
    target_path = _without_scheme(target_path or artifact.target_path)
    if artifact.body is None and source and not remote and not target_path and not os.path.exists(source):
        raise FileNotFoundError("the artifact %r: the file %s does not exist" % (artifact.key, source))
    _identify(artifact, context, tag, labels, db_key)

    extension = _suffix(source, artifact)
    if target_path:
        if not os.path.isabs(target_path) and "://" not in target_path:
            raise ValueError(
                "the target_path of the artifact %r is relative (%s); give an absolute one"
                % (artifact.key, target_path)
            )
        upload = bool(upload)
    elif remote:
        if upload:
            raise ValueError("the artifact %r is at %s already; leave out upload=True" % (artifact.key, source))
        target_path, upload = str(source), False
    elif artifact.is_inline or upload is False:
        upload = False
    else:
        upload = True
        folder = _folder(context, artifact_path)
        target_path = "%s/%s/%d/%s%s" % (folder, context.name or "run", artifact.iter, artifact.key, extension)
    artifact.target_path = _fill(target_path, context)
    artifact.src_path = source if source and not remote else None
    if not artifact.format and artifact.kind != "dir":
        artifact.format = extension.rpartition(".")[2] or None
    if not artifact.viewer and artifact.format in ("html", "htm"):
        artifact.viewer = "web-app"
    _store(artifact, source if not remote else None, upload)
    return artifact


def _artifact(item: Any, source: str | None) -> Artifact:
    if isinstance(item, Artifact):
        return item
    if isinstance(item, str):
        return DirArtifact(item) if source and os.path.isdir(source) else Artifact(item)
    raise TypeError("log_artifact takes a key or an Artifact, not %s" % type(item).__name__)


def _check_name(what: str, name: str) -> None:
    ends = bool(name) and name.isascii() and name[0].isalnum() and name[-1].isalnum()
    short = what != "tag" or len(name) <= 63
    if not ends or not short or not all(char.isalnum() or char in "-_." for char in name):
        raise ValueError(
            "the artifact's %s %r is not valid: use letters, digits and, inside, '-', '_' and '.'" % (what, name)
        )


def _identify(
    artifact: Artifact,
    context: MLClientCtx,
    tag: str,
    labels: dict[str, Any] | None,
    db_key: str | bool | None,
) -> None:
    from datetime import datetime, timezone

    artifact.project = context.project
    artifact.iter = context.iteration
    artifact.tree = context.tag
    artifact.tag = tag
    artifact.labels = {str(key): str(value) for key, value in (labels or {}).items()}
    artifact.producer = context.get_meta()
    artifact.sources = [{"name": key, "path": str(url)} for key, url in context.inputs.items()]
    if db_key is False:
        artifact.db_key = ""
    elif isinstance(db_key, str) and db_key:
        _check_name("key", db_key)
        artifact.db_key = db_key
    else:
        artifact.db_key = "%s_%s" % (context.name, artifact.key) if context.name else artifact.key
    now = datetime.now(timezone.utc)
    artifact.created = now.strftime("%Y-%m-%d %H:%M:%S.%f+00:00")


def _suffix(source: str | None, artifact: Artifact) -> str:
    if artifact.kind == "dir":
        return "/"
    if source:
        name = source.partition("?")[0].rpartition("/")[2]
        extension = name.lstrip(".").partition(".")[2]
        if extension:
            return "." + extension
    return "." + artifact.format if artifact.format else ""


def _folder(context: MLClientCtx, artifact_path: str | None) -> str:
    folder = context.artifact_path
    if artifact_path and artifact_path.startswith("+/"):
        folder = folder.rstrip("/") + artifact_path[1:]
    elif artifact_path:
        folder = artifact_path
    folder = _without_scheme(folder)
    return folder.rstrip("/") if "://" in folder else os.path.abspath(folder)


def _fill(path: str, context: MLClientCtx) -> str:
    uid = context.uid if not context.iteration else context.uid.rpartition("-")[0]
    for token, value in (
        ("{{run.uid}}", uid),
        ("{{project}}", context.project),
        ("{{run.project}}", context.project),
        ("{{run.user}}", context.labels.get("owner", "")),
    ):
        path = path.replace(token, value)
    return path


def _without_scheme(path: str) -> str:
    return path[len("file://") :] if path.startswith("file://") else path


def _store(artifact: Artifact, source: str | None, upload: bool) -> None:
    """Write what has to be written; set hash and size."""
    body, target = artifact.body, artifact.target_path
    if upload and "://" in target:
        raise ValueError(
            "the artifact %r would go to %s; the built-in runtime writes files only, add mlrun to the function's "
            "requirements and import it for other stores" % (artifact.key, target)
        )
    if body is not None:
        data = body.encode() if isinstance(body, str) else bytes(body)
        if artifact.is_inline and len(data) > _INLINE_LIMIT:
            raise ValueError(
                "the artifact %r has %d bytes, more than the 16 MiB of an inline one" % (artifact.key, len(data))
            )
        artifact.size, artifact.hash = len(data), hashlib.sha1(data, usedforsecurity=False).hexdigest()
        if upload:
            _write(target, data)
    elif artifact.kind == "dir":
        if upload and source:
            _copy_tree(source, target)
        artifact.size = sum(os.path.getsize(path) for path in _files(source or target))
    elif source and os.path.isfile(source):
        artifact.size, artifact.hash = _copy(source, target if upload else "")
    elif target and "://" not in target and os.path.isfile(target):
        artifact.size, artifact.hash = _copy(target, "")


def _write(target: str, data: bytes) -> None:
    temporary = _beside(target)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def _copy(source: str, target: str) -> tuple[int, str]:
    """Copy source to target, unless that is "" or the same file; return size and hash."""
    digest, size = hashlib.sha1(usedforsecurity=False), 0
    copy = bool(target) and not (os.path.exists(target) and os.path.samefile(source, target))
    temporary = _beside(target) if copy else os.devnull
    try:
        with open(source, "rb") as reader, open(temporary, "wb") as writer:
            for chunk in iter(lambda: reader.read(_CHUNK), b""):
                digest.update(chunk)
                size += len(chunk)
                writer.write(chunk)
        if copy:
            os.replace(temporary, target)
    except BaseException:
        if copy:
            _remove(temporary)
        raise
    return size, digest.hexdigest()


def _copy_tree(source: str, target: str) -> None:
    target = target.rstrip("/")
    if os.path.exists(target) and os.path.samefile(source, target):
        return
    temporary = _beside(target)
    try:
        shutil.copytree(source, temporary)
        if os.path.exists(target):
            shutil.rmtree(target)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _files(folder: str) -> list[str]:
    return [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]


def _beside(target: str) -> str:
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, ".%s.%d.part" % (name, os.getpid()))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
