"""Putting an artifact in its place: where its content goes, its name, what it belongs to."""

from __future__ import annotations

import os

from millrace._artifacts import Artifact, DirArtifact, without_scheme
from millrace._content import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

_HASH_MODE = "MLRUN_ARTIFACTS__GENERATE_TARGET_PATH_FROM_ARTIFACT_HASH"


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
    is_inline: bool | None = None,
    extra_data: dict[str, Any] | None = None,
) -> Artifact:
    """Put the content of an artifact in its place and return what describes it.

    item is the key or an Artifact. The content is body (text or bytes), else the
    file or folder local_path. It goes to target_path if that is given; else, where
    runs store content by its hash, to <artifact_path>/<SHA-1><suffix>; else to
    <artifact_path>/<run name>/<iteration>/<key><suffix>. An artifact_path that
    begins with "+/" extends the run's. upload=False records without copying.
    """
    source = local_path or src_path or (item.src_path if isinstance(item, Artifact) else None)
    source = without_scheme(os.fspath(source)) if source else None
    artifact = _artifact(item, source)
    artifact.body = artifact.body if body is None else body
    artifact.viewer = viewer or artifact.viewer
    artifact.format = format or artifact.format
    artifact.description = description or artifact.description
    artifact.is_inline = artifact.is_inline if is_inline is None else is_inline
    if extra_data:
        artifact.extra_data = dict(artifact.extra_data, **extra_data)
    check_name("key", artifact.key)
    if tag:
        check_name("tag", tag)
    remote = source is not None and "://" in source
    target_path = without_scheme(target_path or artifact.target_path)
    # Models and data sets have other sources of content than a file.
    needed = not artifact.has_body() and not target_path and artifact.kind not in ("model", "dataset")
    if needed and source and not remote and not os.path.exists(source):
        raise FileNotFoundError("the artifact %r: the file %s does not exist" % (artifact.key, source))
    if artifact.kind != "model":
        artifact.src_path = source if source and not remote else None
    artifact.prepare()
    _identify(artifact, context, tag, labels, db_key)

    extension = artifact.suffix(source)
    place: Place | None = None
    if target_path:
        if not os.path.isabs(target_path) and "://" not in target_path:
            raise ValueError(
                "the target_path of the artifact %r is relative (%s); give an absolute one"
                % (artifact.key, target_path)
            )
        target_path = fill(target_path, context)
        if artifact.kind in ("dir", "model"):
            target_path = target_path.rstrip("/") + "/"
        place = Place(target_path) if upload else None
    elif remote and artifact.kind != "model":
        if upload:
            raise ValueError("the artifact %r is at %s already; leave out upload=True" % (artifact.key, source))
        target_path = fill(str(source), context)
    elif not artifact.is_inline and upload is not False:
        folder = fill(_folder(context, artifact_path), context)
        if os.environ.get(_HASH_MODE, "").lower() in ("1", "true", "yes"):
            place = Place(folder=folder, suffix=extension)
        else:
            name = "%s/%s/%d/%s%s" % (folder, context.name or "run", artifact.iter, artifact.key, extension)
            place = Place(name)
            target_path = name
    artifact.target_path = target_path
    if artifact.viewer is None and (artifact.format in ("html", "htm") or extension in (".html", ".htm")):
        artifact.viewer = "web-app"
    artifact.store(source if not remote else None, place)
    return artifact


def _artifact(item: Any, source: str | None) -> Artifact:
    if isinstance(item, Artifact):
        return item
    if isinstance(item, str):
        return DirArtifact(item) if source and os.path.isdir(source) else Artifact(item)
    raise TypeError("log_artifact takes a key or an Artifact, not %s" % type(item).__name__)


def check_name(what: str, name: str) -> None:
    """Refuse a key or tag that is not a name."""
    ends = bool(name) and name.isascii() and name[0].isalnum() and name[-1].isalnum()
    if not ends or not all(char.isalnum() or char in "-_." for char in name):
        raise ValueError(
            "the artifact's %s %r is not valid: use letters, digits and, inside, '-', '_' and '.'" % (what, name[:100])
        )
    limit = 63 if what == "tag" else 200
    if len(name) > limit:
        raise ValueError(
            "the artifact's %s %r is not valid: it has %d characters, more than %d"
            % (what, name[:50] + "…", len(name), limit)
        )


def _identify(
    artifact: Artifact,
    context: MLClientCtx,
    tag: str,
    labels: dict[str, Any] | None,
    db_key: str | bool | None,
) -> None:
    artifact.project = context.project
    artifact.iter = context.iteration
    artifact.tree = context.tag
    artifact.tag = tag
    if labels is not None:
        artifact.labels = {str(key): str(value) for key, value in labels.items()}
    artifact.producer = context.get_meta()
    artifact.sources = [{"name": key, "path": str(url)} for key, url in context.inputs.items()]
    if db_key is False:
        artifact.db_key = ""
    elif isinstance(db_key, str) and db_key:
        check_name("key", db_key)
        artifact.db_key = db_key
    else:
        artifact.db_key = "%s_%s" % (context.name, artifact.key) if context.name else artifact.key
    for key, value in artifact.extra_data.items():
        if isinstance(value, Artifact):
            artifact.extra_data[key] = value.target_path
    from datetime import datetime, timezone

    now = datetime.now(timezone.utc)
    artifact.created = now.strftime("%Y-%m-%d %H:%M:%S.%f+00:00")


def _folder(context: MLClientCtx, artifact_path: str | None) -> str:
    folder = context.artifact_path
    if artifact_path and artifact_path.startswith("+/"):
        folder = folder.rstrip("/") + artifact_path[1:]
    elif artifact_path:
        folder = artifact_path
    folder = without_scheme(folder)
    return folder.rstrip("/") if "://" in folder else os.path.abspath(folder)


def fill(path: str, context: MLClientCtx) -> str:
    """Replace the templates of a path."""
    uid = context.uid if not context.iteration else context.uid.rpartition("-")[0]
    for token, value in (
        ("{{run.uid}}", uid),
        ("{{project}}", context.project),
        ("{{run.project}}", context.project),
        ("{{run.user}}", context.labels.get("owner", "")),
    ):
        path = path.replace(token, value)
    return path
