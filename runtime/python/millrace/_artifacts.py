"""Artifacts: the kinds of plain ones, and the document of one."""

from __future__ import annotations

import os

from millrace import _content
from millrace._content import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from millrace._data import DataItem

_INLINE_LIMIT = 16 << 20
_LISTED_FILES = 1000  # of a folder, in its document


class Part:
    """metadata, spec or status of an artifact: its attributes under the names that MLRun code uses."""

    def __init__(self, artifact: Artifact) -> None:
        object.__setattr__(self, "_artifact", artifact)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_artifact"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_artifact"), name, value)


class Artifact:
    """One artifact; to_dict() is its document. Give one to log_artifact to set more than its key.

    All fields are attributes; metadata, spec and status are views of the same.
    """

    kind = "artifact"
    prefix = "artifacts"  # of its store:// URI
    fields: tuple[str, ...] = ()  # of spec, besides those of every artifact
    facts: tuple[str, ...] = ()  # of status
    collections_of: dict[str, Callable[[], Any]] = {}  # fields that are never None

    def __init__(
        self,
        key: str = "",
        body: Any = None,
        viewer: str | None = None,
        is_inline: bool = False,
        format: str | None = None,
        size: int | None = None,
        target_path: str = "",
        project: str = "",
        *,
        description: str | None = None,
        src_path: str | None = None,
    ) -> None:
        self.key = key or ""
        self.body = body
        self.description = description
        self.viewer = viewer
        self.is_inline = is_inline
        self.format = format
        self.size = size
        self.target_path = target_path or ""
        self.src_path = src_path
        self.project = project or ""
        self.db_key: str = ""
        self.tree = ""
        self.iter = 0
        self.tag = ""
        self.labels: dict[str, str] = {}
        self.hash: str | None = None
        self.digest: str | None = None
        self.extra_data: dict[str, Any] = {}
        self.unpackaging_instructions: dict[str, Any] | None = None
        self.producer: dict[str, Any] = {}
        self.sources: list[dict[str, str]] = []
        self.license = ""
        self.uid = ""
        self.created = ""
        self.state = "created"
        for name in self.fields + self.facts:
            if not hasattr(self, name):
                setattr(self, name, None)

    @property
    def metadata(self) -> Part:
        """The fields of the document's metadata."""
        return Part(self)

    spec = status = metadata

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.kind == "dir"

    @property
    def inline(self) -> Any:
        """The content, where the record holds it; setting it makes the record do so."""
        return self.body if self.is_inline else None

    @inline.setter
    def inline(self, body: Any) -> None:
        self.body = body
        self.is_inline = self.is_inline or bool(body)

    @property
    def uri(self) -> str:
        """The store:// URI."""
        uri = "store://%s/%s/%s" % (self.prefix, self.project, self.db_key or self.key)
        if self.iter:
            uri += "#%d" % self.iter
        if self.tag:
            uri += ":" + self.tag
        return "%s@%s" % (uri, self.tree) if self.tree else uri

    def get_store_url(self, with_tag: bool = True, project: str | None = None) -> str:
        """Return the store:// URI."""
        return self.uri

    def get_target_path(self) -> str:
        """Return where the content is."""
        return self.target_path

    def get_body(self) -> Any:
        """Return the content that was given, in the form in which it is stored."""
        return self.body

    def has_body(self) -> bool:
        """Say whether the artifact makes its content itself, so that no file has to be there."""
        return self.body is not None

    def to_dataitem(self) -> DataItem:
        """Return the content as a DataItem."""
        from millrace._data import DataItem

        return DataItem(self.key, self.target_path)

    # -- what kinds do in their own way

    def prepare(self) -> None:
        """Refuse what cannot be logged."""
        body = self.body
        if body is not None and not isinstance(body, (str, bytes, bytearray, memoryview)):
            raise TypeError(
                "the body of the artifact %r is of type %s; give text or bytes, or a file as local_path"
                % (self.key, type(body).__name__)
            )

    def suffix(self, source: str | None) -> str:
        """Return what the name of the stored file ends with."""
        if source:
            name = source.partition("?")[0].rpartition("/")[2]
            extension = name.lstrip(".").partition(".")[2]
            if extension:
                return "." + extension
        return "." + self.format if self.format else ""

    def store(self, source: str | None, place: Place | None) -> None:
        """Put the content in its place (None: it stays where it is); set target_path, size, hash and digest."""
        body = self.get_body()
        if body is not None:
            data = body.encode() if isinstance(body, str) else bytes(body)
            if self.is_inline and len(data) > _INLINE_LIMIT:
                raise ValueError(
                    "the artifact %r has %d bytes, more than the 16 MiB of an inline one" % (self.key, len(data))
                )
            if place is None:
                meter = _content.Meter()
                meter.update(data)
                self.note(meter.written(self.target_path))
            else:
                self.note(_content.put(data, place))
        elif source and os.path.isfile(source):
            self.note(_content.put_file(source, place) if place else _content.measure(source), move=place is not None)
        elif source and place is not None:
            raise ValueError(
                "the artifact %r is a file, but %s is a folder; log a folder by its key or as DirArtifact"
                % (self.key, source)
            )
        elif self.target_path and "://" not in self.target_path and os.path.isfile(self.target_path):
            self.note(_content.measure(self.target_path))

    def note(self, written: _content.Written, move: bool = True) -> None:
        """Take over what is known about the content."""
        self.size, self.hash, self.digest = written.size, written.sha1, written.digest
        if move:
            self.target_path = written.target

    # -- the document

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        metadata: dict[str, Any] = {"key": self.key, "project": self.project, "iter": self.iter, "tree": self.tree}
        if self.created:
            metadata.update(created=self.created, updated=self.created)
        spec: dict[str, Any] = {
            "target_path": self.target_path,
            "db_key": self.db_key,
            "producer": self.producer,
            "license": self.license,
        }
        status: dict[str, Any] = {"state": self.state}
        for part, names in (
            (metadata, ("description", "hash", "tag", "labels", "uid")),
            (spec, ("src_path", "viewer", "unpackaging_instructions", "extra_data", "sources", *self.fields)),
            (status, self.facts),
        ):
            for name in names:
                value = getattr(self, name)
                # An empty text of a field is kept, as the SDK does; other empty ones say nothing.
                if value is None or value == {} or value == [] or (part is metadata and value == ""):
                    continue
                part[name] = _document(value)
        if self.format or (self.format is not None and self.kind == "dataset"):
            spec["format"] = self.format
        if self.size is not None:
            spec["size"] = self.size
        if self.is_inline and self.body is not None:
            spec["inline"] = self.body if isinstance(self.body, str) else bytes(self.body).decode("utf-8", "replace")
        return {"kind": self.kind, "metadata": metadata, "spec": spec, "status": status, "project": self.project}

    def to_json(self) -> str:
        """Return the document as JSON."""
        from millrace import _json

        return _json.dumps(self.to_dict())

    def to_yaml(self) -> str:
        """Return the document as YAML."""
        from millrace import _yaml

        return _yaml.dump(self.to_dict())

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Artifact:
        """Return the artifact that a document describes; fields that are not known here are dropped."""
        kind = document.get("kind") or ""
        artifact = cls.__new__(cls if cls is not Artifact else kinds(kind))
        Artifact.__init__(artifact)
        for name, empty in artifact.collections_of.items():
            setattr(artifact, name, empty())
        parts: list[dict[str, Any]] = [document.get(name) or {} for name in ("metadata", "spec", "status")]
        for part in parts:
            for name, value in part.items():
                if name == "inline":
                    artifact.is_inline, artifact.body = True, value
                elif name in artifact.__dict__ and value is not None:
                    setattr(artifact, name, value)
        artifact.project = artifact.project or document.get("project") or ""
        return artifact


class DirArtifact(Artifact):
    """A folder with all that is below it; extra_data is the list of its files."""

    kind = "dir"

    def suffix(self, source: str | None) -> str:
        """Return the slash of folders."""
        return "/"

    def store(self, source: str | None, place: Place | None) -> None:
        """Copy the folder."""
        source = source or (self.target_path if "://" not in self.target_path else None)
        if not source or not os.path.isdir(source):
            if place is not None:
                raise NotADirectoryError("the artifact %r: %s is not a folder" % (self.key, source or "nothing"))
            return
        written, names = _content.put_tree(source, place or Place(source))
        self.size = written.size
        if place is not None:
            self.target_path = written.target
        below = self.target_path or source
        self.extra_data = {name: os.path.join(below, name) for name in names[:_LISTED_FILES]}


_KINDS = {
    "plot": ("_plots", "PlotArtifact"),
    "plotly": ("_plots", "PlotlyArtifact"),
    "table": ("_datasets", "TableArtifact"),
    "dataset": ("_datasets", "DatasetArtifact"),
    "model": ("_models", "ModelArtifact"),
    "document": ("_documents", "DocumentArtifact"),
}


def kinds(kind: str) -> type[Artifact]:
    """Return the class of a kind; that of plain files for one that is not known."""
    if kind == "dir":
        return DirArtifact
    if kind not in _KINDS:
        return Artifact
    stem, name = _KINDS[kind]
    found: type[Artifact] = getattr(__import__("millrace." + stem, fromlist=(name,)), name)
    return found


def without_scheme(path: str) -> str:
    """Return a file:// URL as path, others as they are."""
    return path[len("file://") :] if path.startswith("file://") else path


def _document(value: Any) -> Any:
    """Return value as documents hold it: keys are text, and what JSON has no form for is its text."""
    if isinstance(value, dict):
        return {str(key): _document(item) for key, item in value.items() if item is not ...}
    if isinstance(value, (list, tuple)):
        return [_document(item) for item in value]
    if isinstance(value, Artifact):
        return value.target_path
    if hasattr(value, "to_dict") and not isinstance(value, type):
        return _document(value.to_dict())
    if hasattr(value, "tolist"):
        return _document(value.tolist())
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, (bytes, bytearray)):
        raise TypeError(
            "bytes cannot be part of an artifact's document; give a path, or for a model's extra_data log the model"
        )
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)  # of a subclass
    return str(value)
