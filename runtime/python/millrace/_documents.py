"""Documents: a file or URL for a language model, and which loader reads it."""

from __future__ import annotations

from millrace._artifacts import Artifact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

_LABEL = 255


class DocumentLoaderSpec:
    """The class of a loader, the name of its argument for the source, and its other arguments."""

    def __init__(
        self,
        loader_class_name: str = "langchain_community.document_loaders.TextLoader",
        src_name: str = "file_path",
        download_object: bool = True,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.loader_class_name = loader_class_name
        self.src_name = src_name
        self.download_object = download_object
        self.kwargs = kwargs

    def make_loader(self, src_path: str) -> Any:
        """Return the loader for a source."""
        module, _, name = self.loader_class_name.rpartition(".")
        try:
            loader = getattr(__import__(module, fromlist=(name,)), name)
        except (ImportError, AttributeError, ValueError):
            raise ImportError(
                "the document loader %s is not there; add its package to the function's requirements"
                % self.loader_class_name
            ) from None
        return loader(**dict({self.src_name: src_path}, **(self.kwargs or {})))

    def to_dict(self) -> dict[str, Any]:
        """Return the loader as documents hold it."""
        return {name: value for name, value in self.__dict__.items() if value not in (None, {})}


class DocumentArtifact(Artifact):
    """A document."""

    kind = "document"
    fields = ("document_loader", "original_source")
    facts = ("collections",)

    def __init__(
        self,
        key: str = "",
        original_source: str | None = None,
        document_loader_spec: Any = None,
        collections: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(key, **options)
        self.document_loader: Any = document_loader_spec.to_dict() if document_loader_spec else None
        self.original_source = original_source
        self.collections = collections or {}

    @staticmethod
    def key_from_source(src_path: str) -> str:
        """Return a source's path as a key: what a key cannot have becomes "_"."""
        return _key(src_path)

    def load(self) -> Any:
        """Return the pieces that the loader makes of the document."""
        loader = DocumentLoaderSpec(**(self.document_loader or {}))
        item = self.to_dataitem()
        return loader.make_loader(item.local() if loader.download_object else item.url).load()


def _key(source: str) -> str:
    key = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in source)
    key = key.lstrip("_.-")
    while key and not key[-1].isalnum():
        key = key[:-1]
    return key


def log(
    context: MLClientCtx,
    key: str = "",
    tag: str = "",
    local_path: str = "",
    artifact_path: str | None = None,
    document_loader_spec: Any = None,
    upload: bool | None = False,
    labels: dict[str, Any] | None = None,
    target_path: str = "",
    db_key: str | bool | None = None,
    collections: dict[str, Any] | None = None,
    **options: Any,
) -> Artifact:
    """Log a document. Its key is made of its path if it has none; unless upload is true it stays where it is."""
    from millrace import _placing

    source = str(local_path or target_path or "")
    if not key and not source:
        raise ValueError("log_document needs a key, or a local_path or target_path to make it of")
    artifact = DocumentArtifact(
        key or _key(source), source or None, document_loader_spec or DocumentLoaderSpec(), collections, **options
    )
    label = source if len(source) <= _LABEL else source[: _LABEL - 3] + "..."
    return _placing.log(
        context, artifact, None, local_path or None, artifact_path, tag, target_path=target_path, upload=upload,
        labels=dict(labels or {}, **({"source": label} if label else {})), db_key=db_key,
    )  # fmt: skip
