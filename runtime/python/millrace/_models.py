"""Models: a file with a description, what it takes and gives, how good it is, and files that belong to it.

In the readable layout all of it is in one folder with model_spec.yaml, which is
the artifact's document; where content is stored by its hash each file has its
own place and model_target_file names the model's.
"""

from __future__ import annotations

import os

from millrace import _content
from millrace._artifacts import Artifact
from millrace._content import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

SPEC_FILE = "model_spec.yaml"
_OPTIONAL = (".tar.gz", ".pkl", ".bin", ".pickle")
_TYPES = {"bool": "bool", "int64": "int", "int32": "int32", "float32": "float32", "float64": "float"}
_ROW_TYPES = {"integer": "int", "number": "float", "boolean": "bool", "datetime": "datetime"}


class Feature:
    """One input or output of a model."""

    def __init__(
        self,
        value_type: Any = None,
        dims: list[int] | None = None,
        description: str | None = None,
        aggregate: bool | None = None,
        name: str | None = None,
        validator: Any = None,
        default: Any = None,
        labels: dict[str, str] | None = None,
    ) -> None:
        self.name = name or ""
        self.value_type = "str" if value_type is None else str(getattr(value_type, "__name__", value_type))
        self.dims = dims
        self.description = description
        self.default = default
        self.labels = labels or {}
        self.aggregate = aggregate
        self.validator = validator

    def to_dict(self) -> dict[str, Any]:
        """Return the feature as documents hold it."""
        return {name: value for name, value in self.__dict__.items() if value not in (None, {}, [])}


class ModelArtifact(Artifact):
    """A model; see the module's comment."""

    kind = "model"
    prefix = "models"
    fields = (
        "model_file", "metrics", "parameters", "inputs", "outputs", "framework", "algorithm", "feature_vector",
        "feature_weights", "feature_stats", "model_target_file",
    )  # fmt: skip
    collections_of = {"metrics": dict, "parameters": dict, "inputs": list, "outputs": list}
    model_file: str
    metrics: dict[str, Any]
    parameters: dict[str, Any]
    inputs: list[Any]
    outputs: list[Any]
    framework: str
    feature_stats: Any
    model_target_file: str | None

    def __init__(
        self,
        key: str = "",
        body: Any = None,
        format: str | None = None,
        model_file: str | None = None,
        metrics: dict[str, Any] | None = None,
        target_path: str = "",
        parameters: dict[str, Any] | None = None,
        inputs: list[Any] | None = None,
        outputs: list[Any] | None = None,
        framework: str | None = None,
        algorithm: str | None = None,
        feature_vector: str | None = None,
        feature_weights: list[Any] | None = None,
        extra_data: dict[str, Any] | None = None,
        model_dir: str | None = None,
    ) -> None:
        super().__init__(key, body, format=format, target_path=target_path)
        file = os.fspath(model_file) if model_file else ""
        folder = os.fspath(model_dir) if model_dir else None
        if "/" in file:
            folder, _, file = file.rpartition("/")
            folder = folder or "/"
        self.model_file = file
        self.src_path = folder
        self.metrics = dict(metrics or {})
        self.parameters = dict(parameters or {})
        self.inputs = list(inputs or [])
        self.outputs = list(outputs or [])
        self.framework = framework or ""
        self.algorithm = algorithm
        self.feature_vector = feature_vector
        self.feature_weights = feature_weights
        self.extra_data = dict(extra_data or {})

    @property
    def is_remote(self) -> bool:
        """Whether the model's file is at a URL already."""
        return "://" in (self.src_path or "")

    def infer_from_df(self, df: Any, label_columns: Any = None, with_stats: bool = True) -> None:
        """Take inputs, outputs and statistics from a training set."""
        from millrace import _datasets, _rows

        df = _datasets.frame_of(df)
        labels = label_columns if isinstance(label_columns, (list, tuple)) else [label_columns] if label_columns else []
        rows = isinstance(df, _rows.Rows)
        columns = list(df.header) if rows else list(df.columns)
        for label in labels:
            if label not in columns:
                raise ValueError(
                    "the training set of the model %r has no column %r to be its label; its columns are %s"
                    % (self.key, label, ", ".join(str(column) for column in columns[:20]))
                )
        if rows:
            known = df.types()
            types = {name: _ROW_TYPES.get(known[name], "str") for name in columns}
            numeric = [name for name in columns if known[name] in ("integer", "number", "boolean")]
            stats = df.without([name for name in columns if name not in numeric]).statistics() if with_stats else None
        else:
            from pandas.api.types import is_numeric_dtype

            types = {name: _value_type(df[name]) for name in columns}
            numeric = [name for name in columns if is_numeric_dtype(df[name])]
            stats = _datasets.statistics(df[numeric]) if with_stats and numeric and len(df) else None
        of = {name: {"name": str(name), "value_type": types[name]} for name in columns}
        self.inputs += [of[name] for name in columns if name not in labels]
        self.outputs = [of[name] for name in labels] + self.outputs
        self.feature_stats = stats

    def prepare(self) -> None:
        """Refuse what is no model."""
        super().prepare()
        if not self.model_file:
            raise ValueError("the model %r has no model_file; give the name of its file" % self.key)
        if self.framework:
            self.labels["framework"] = self.framework
        for key, value in self.extra_data.items():
            self._check_extra(key, value)

    def _check_extra(self, key: str, value: Any) -> None:
        where = "the extra_data %r of the model %r" % (key, self.key)
        _inside(str(key), where)
        if isinstance(value, (bytes, bytearray, Artifact)) or value is ... or hasattr(value, "artifact_url"):
            return
        if not isinstance(value, (str, os.PathLike)):
            raise TypeError(
                "%s is of type %s; give bytes, a path below the model's folder, a URL or an artifact"
                % (where, type(value).__name__)
            )
        path = os.fspath(value)
        if "://" not in path and not os.path.isabs(path):
            _inside(path, where)

    def suffix(self, source: str | None) -> str:
        """Return the slash of folders."""
        return "/"

    def store(self, source: str | None, place: Place | None) -> None:
        """Write the model, its extra files and model_spec.yaml."""
        if place is None:
            if self.is_remote and not self.target_path:
                self.target_path = str(self.src_path).rstrip("/") + "/"
            local = os.path.join(source or "", self.model_file)
            if self.body is None and not self.is_remote and os.path.isfile(local):
                self.note(_content.measure(local), move=False)
            return
        hashed = not place.target
        base = place.target or place.folder.rstrip("/") + "/"
        path = os.path.join(source or "", self.model_file)
        where = place_of(place, base + self.model_file, self.model_file)
        if self.body is not None:
            body = self.body
            written = _content.put(body.encode() if isinstance(body, str) else bytes(body), where)
        elif os.path.isfile(path):
            written = _content.put_file(path, where)
        else:
            raise FileNotFoundError("the model %r: the file %s does not exist" % (self.key, path))
        self.note(written, move=False)
        self.target_path = base
        if hashed:
            self.model_target_file = written.target.rpartition("/")[2]
        self.store_extra(self.extra_data, place, base)
        self.write_spec(place, base)

    def store_extra(self, extra: dict[str, Any], place: Place, base: str, prefix: str = "") -> None:
        """Write bytes and files of extra data, and record where all of it is."""
        for key, value in list(extra.items()):
            name = prefix + str(key)
            self._check_extra(name, value)
            if isinstance(value, (bytes, bytearray)):
                value = _content.put(bytes(value), place_of(place, base + name, name)).target
            elif isinstance(value, Artifact):
                value = value.target_path
            elif hasattr(value, "artifact_url"):
                value = value.url
            elif value is not ...:
                value = os.fspath(value)
                if "://" not in value and not os.path.isabs(value):
                    path = os.path.join(self.src_path or "", value)
                    if not os.path.isfile(path):
                        raise FileNotFoundError(
                            "the extra_data %r of the model %r: the file %s does not exist" % (key, self.key, path)
                        )
                    value = _content.put_file(path, place_of(place, base + value, value)).target
            self.extra_data[name] = value

    def write_spec(self, place: Place, base: str) -> None:
        """Write model_spec.yaml."""
        from millrace import _yaml

        document = self.to_dict()
        for name in ("tag", "created", "updated"):
            document["metadata"].pop(name, None)
        del document["project"]
        document["metadata"]["project"] = self.project
        _content.put(_yaml.dump(document).encode(), place_of(place, base + SPEC_FILE, SPEC_FILE))


def place_of(place: Place, target: str, name: str) -> Place:
    """Return the place of one file of a model."""
    if place.target:
        return Place(target)
    extension = name.rpartition("/")[2].lstrip(".").partition(".")[2]
    return Place(folder=place.folder, suffix="." + extension if extension else "")


def _inside(path: str, what: str) -> None:
    if os.path.isabs(path) or ".." in path.split("/") or not path or "\0" in path:
        raise ValueError("%s: the path %r leaves the model's folder" % (what, path[:200]))


def _value_type(column: Any) -> str:
    kind = str(getattr(column.dtype, "categories", column).dtype)
    if kind.startswith("datetime64"):
        return "datetime"
    return _TYPES.get({"Int64": "int64", "Float64": "float64", "boolean": "bool"}.get(kind, kind), "str")


def log(
    context: MLClientCtx,
    key: str,
    body: Any = None,
    framework: str = "",
    tag: str = "",
    model_dir: str | None = None,
    model_file: str | None = None,
    algorithm: str | None = None,
    metrics: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    artifact_path: str | None = None,
    upload: bool | None = True,
    labels: dict[str, Any] | None = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    feature_vector: str | None = None,
    feature_weights: list[Any] | None = None,
    training_set: Any = None,
    label_column: Any = None,
    extra_data: dict[str, Any] | None = None,
    db_key: str | bool | None = None,
    target_path: str = "",
) -> Artifact:
    """Log a model: its content is body, or the file model_file (in model_dir)."""
    from millrace import _placing

    if training_set is not None and inputs:
        raise ValueError("the model %r is given inputs and a training_set to take them from; give one" % key)
    artifact = ModelArtifact(
        key, body, None, model_file, metrics, "", parameters, inputs, outputs, framework, algorithm,
        feature_vector, feature_weights, extra_data, model_dir,
    )  # fmt: skip
    if training_set is not None:
        artifact.infer_from_df(training_set, label_column)
    if artifact.is_remote:
        upload = False
    return _placing.log(
        context, artifact, None, None, artifact_path, tag, target_path=target_path, upload=upload,
        labels=dict(labels or {}, **({"framework": framework} if framework else {})), db_key=db_key,
    )  # fmt: skip


def get_model(model_dir: Any, suffix: str = "") -> tuple[str, Artifact | None, dict[str, Any]]:
    """Return the local path of a model's file, its artifact if that is known, and its extra data as DataItems.

    model_dir is a store:// URI, a DataItem, an artifact, a model_spec.yaml, the
    file itself, or a folder with either of them; suffix is that of a model's
    file in a folder (.pkl).
    """
    from millrace._data import DataItem

    if hasattr(model_dir, "artifact_url"):
        model_dir = model_dir.artifact_url
    artifact: Artifact | None = None
    base, file = "", ""
    if isinstance(model_dir, Artifact):
        artifact, base = model_dir, model_dir.target_path
    elif not isinstance(model_dir, (str, os.PathLike)):
        raise TypeError("get_model takes a path, a URL, a DataItem or an artifact, not %s" % type(model_dir).__name__)
    else:
        url = os.fspath(model_dir)
        if url.startswith("store://"):
            item = DataItem("", url)
            artifact, base = item.meta, item.url
        elif url.lower().endswith((".yaml", ".yml")):
            artifact, base = _load_spec(url), url.rpartition("/")[0]
        elif url.endswith(suffix or _OPTIONAL):
            file = url
        else:
            artifact, base, file = _from_folder(url, suffix or ".pkl")
    extra: dict[str, Any] = {}
    if artifact is not None:
        if not isinstance(artifact, ModelArtifact):
            raise ValueError("%s is not a model, its kind is %s" % (artifact.uri, artifact.kind))
        file = _join(base, artifact.model_target_file or artifact.model_file)
        extra = {key: DataItem(key, _join(base, str(value))) for key, value in artifact.extra_data.items()}
    return DataItem("", file).local(), artifact, extra


def _from_folder(url: str, suffix: str) -> tuple[Artifact | None, str, str]:
    from millrace._data import DataItem

    names = DataItem("", url).listdir()
    if SPEC_FILE in names:
        return _load_spec(_join(url, SPEC_FILE)), url, ""
    found = sorted(name for name in names if name.endswith(suffix))
    if not found:
        raise FileNotFoundError("the folder %s has no model: neither %s nor a file *%s" % (url, SPEC_FILE, suffix))
    return None, url, _join(url, found[0])


def _load_spec(url: str) -> Artifact:
    from millrace import _yaml
    from millrace._data import DataItem

    try:
        document = _yaml.load(DataItem("", url).get(encoding="utf-8"))
    except UnicodeDecodeError:
        document = None
    if not isinstance(document, dict) or document.get("kind") != "model":
        raise ValueError("%s does not describe a model" % url)
    return Artifact.from_dict(document)


def _join(base: str, name: str) -> str:
    return name if "://" in name or os.path.isabs(name) else base.rstrip("/") + "/" + name


def update_model(
    context: MLClientCtx,
    model_artifact: Any,
    parameters: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    extra_data: dict[str, Any] | None = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    feature_vector: str | None = None,
    feature_weights: list[Any] | None = None,
    key_prefix: str = "",
    labels: dict[str, Any] | None = None,
    write_spec_copy: bool = True,
    store_object: bool = True,
) -> Artifact:
    """Add to the description of a model (an artifact, a DataItem or a store:// URI) and record it again."""
    from millrace._data import DataItem

    artifact = model_artifact
    if hasattr(artifact, "artifact_url"):
        artifact = artifact.meta
    elif isinstance(artifact, str) and artifact.startswith("store://"):
        artifact = DataItem("", artifact).meta
    if not isinstance(artifact, ModelArtifact):
        raise TypeError("update_model takes a model: its artifact, a DataItem of it or its store:// URI")
    artifact.parameters.update(parameters or {})
    artifact.metrics.update((key_prefix + key, value) for key, value in (metrics or {}).items())
    artifact.labels.update((str(key), str(value)) for key, value in (labels or {}).items())
    for name, value in (
        ("inputs", inputs), ("outputs", outputs), ("feature_vector", feature_vector),
        ("feature_weights", feature_weights),
    ):  # fmt: skip
        if value:
            setattr(artifact, name, value)
    base = artifact.target_path
    place = Place(folder=base) if artifact.model_target_file else Place(base)
    if (extra_data or write_spec_copy) and not base:
        raise ValueError("the model %r has no place of its own, since it was logged with upload=False" % artifact.key)
    artifact.store_extra(dict(extra_data or {}), place, base, key_prefix)
    if write_spec_copy:
        artifact.write_spec(place, base)
    if store_object:
        context.update_artifact(artifact)
    return artifact
