"""From returned values to artifacts and results: what becomes of each type.

Names and recorded instructions are those of MLRun's packagers, so that either
side reads what the other has packed.
"""

from __future__ import annotations

import os

from millrace import _values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

_SMALL_ARRAY = 10  # elements; a larger one is a file
_TYPES = ("result", "file", "object", "path", "dataset", "plot", "plotly")
_COLLECTIONS = (dict, list, tuple, set, frozenset, bytes, bytearray)
_ARCHIVES = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}


class Refused(Exception):
    """A value that cannot be packed as was asked; its text says why."""


class Packed:
    """Where a value went: results to record, or the artifact to log and the folder to delete afterwards."""

    def __init__(self, results: dict[str, Any] | None = None, artifact: Any = None, temporary: str = "") -> None:
        self.results = results or {}
        self.artifact = artifact
        self.temporary = temporary


def pack(key: str, value: Any, kind: str, options: dict[str, Any]) -> Packed:
    """Pack one value as kind, or as its type's default if that is ""; options are those of a hint in dict form."""
    family = _family(value)
    kind = kind or _default(value, family)
    if kind not in _TYPES:
        raise Refused("there is no artifact type %r here (known: %s)" % (kind, ", ".join(_TYPES)))
    if kind == "result":
        return Packed({key: _result(value, family)})
    if kind == "object":
        return _object(key, value, options)
    maker = _MAKERS.get((family, kind))
    if maker is None:
        raise Refused("a value of type %s cannot be packed as %s" % (_type_name(value), kind))
    packed: Packed = maker(key, value, options)
    return packed


def log(context: MLClientCtx, packed: Packed) -> None:
    """Log the artifact of packed, if it has one, and delete its temporary files."""
    import shutil

    try:
        if packed.artifact is not None:
            context.log_artifact(packed.artifact)
    finally:
        if packed.temporary:
            shutil.rmtree(packed.temporary, ignore_errors=True)


def _family(value: Any) -> str:
    """Name the kind of packager that is responsible for value, without importing anything."""
    if value is None or (isinstance(value, (bool, int, float)) and type(value).__module__ == "builtins"):
        return "number"
    if type(value) is str:
        return "str"
    if isinstance(value, (dict, list)) and value:
        items = list(value.values()) if isinstance(value, dict) else value
        if all(_is(item, "numpy", "ndarray") for item in items):
            return "arrays"
    if type(value) in _COLLECTIONS:
        return "collection"
    if isinstance(value, os.PathLike) and type(value).__module__.partition(".")[0] == "pathlib":
        return "path"
    if _is(value, "pandas", "DataFrame"):
        return "frame"
    if _is(value, "pandas", "Series"):
        return "series"
    if _is(value, "numpy", "ndarray"):
        return "array"
    if _is(value, "numpy", "number") or _is(value, "numpy", "bool_") or _is(value, "numpy", "bool"):
        return "number"
    if _is(value, "matplotlib", "Figure"):
        return "figure"
    if _is(value, "plotly", "BaseFigure"):
        return "plotly"
    return "other"


def _is(value: Any, package: str, name: str) -> bool:
    return any(cls.__name__ == name and cls.__module__.partition(".")[0] == package for cls in type(value).__mro__)


def _default(value: Any, family: str) -> str:
    if family == "array":
        return "result" if value.size < _SMALL_ARRAY else "file"
    defaults = {
        "number": "result",
        "str": "result",
        "collection": "result",
        "arrays": "file",
        "path": "path",
        "frame": "dataset",
        "series": "file",
        "figure": "plot",
        "plotly": "plotly",
    }
    return defaults.get(family, "object")


def _result(value: Any, family: str) -> Any:
    if isinstance(value, (tuple, set, frozenset)):
        value = list(value)
    elif family == "arrays":
        value = {key: item.tolist() for key, item in value.items()} if isinstance(value, dict) else [
            item.tolist() for item in value
        ]  # fmt: skip
    elif family == "array":
        value = value.tolist()
    elif family in ("frame", "series"):
        frame = value if family == "frame" else value.to_frame()
        orient = "split" if len(frame.index.names) > 1 else "list" if frame.index.name is None else "dict"
        value = _lists(frame.to_dict(orient=orient))
    return _values.cast(value)


def _lists(value: Any) -> Any:
    """Turn the tuples in value into lists, and keys that JSON does not have into text."""
    if isinstance(value, dict):
        plain = (str, int, float, bool, type(None))
        return {key if isinstance(key, plain) else str(key): _lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    return value


def _option(options: dict[str, Any], name: str, default: str, known: Any) -> str:
    value = str(options.get(name) or default)
    if value not in known:
        raise Refused("the %s %r is none of %s" % (name, value, ", ".join(known)))
    return value


def _folder() -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="output-")


def _type_name(value: Any) -> str:
    return "%s.%s" % (type(value).__module__, type(value).__qualname__)


def _file(key: str, path: str, value: Any, packager: str, instructions: dict[str, Any], kind: str = "file") -> Packed:
    from millrace import Artifact

    artifact = Artifact(key, src_path=path)
    _record(artifact, value, packager, instructions, kind)
    return Packed(artifact=artifact)


def _record(artifact: Any, value: Any, packager: str, instructions: dict[str, Any], kind: str) -> None:
    artifact.unpackaging_instructions = {
        "packager_name": packager,
        "object_type": _type_name(value),
        "artifact_type": kind,
        "instructions": instructions,
    }


def _temporary_file(
    key: str, extension: str, value: Any, packager: str, instructions: dict[str, Any], write: Any, kind: str = "file"
) -> Packed:
    """Let write(path) make the file of an artifact."""
    import shutil

    folder = _folder()
    try:
        path = "%s/%s.%s" % (folder, key, extension)
        write(path)
        packed = _file(key, path, value, packager, instructions, kind)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    packed.temporary = folder
    return packed


def _object(key: str, value: Any, options: dict[str, Any]) -> Packed:
    name = str(options.get("pickle_module_name") or "")
    module: Any = None
    for candidate in (name,) if name else ("cloudpickle", "pickle"):
        try:
            module = __import__(candidate)
        except ImportError:
            continue
        name = candidate
        break
    if module is None or not hasattr(module, "dump"):
        raise Refused("there is no module %s to pickle with; add it to the function's requirements" % name)
    import sys

    owner = type(value).__module__.partition(".")[0]
    instructions = {
        "object_module_name": owner,
        "pickle_module_name": name,
        "python_version": "%d.%d.%d" % sys.version_info[:3],
    }
    for label, known in (("object_module_version", owner), ("pickle_module_version", name)):
        version = getattr(sys.modules.get(known), "__version__", None)
        if isinstance(version, str):
            instructions[label] = version

    def write(path: str) -> None:
        with open(path, "wb") as file:
            module.dump(value, file)

    return _temporary_file(key, "pkl", value, "DefaultPackager", instructions, write, "object")


_COLLECTION_PACKAGERS = {kind: kind.__name__.capitalize() + "Packager" for kind in _COLLECTIONS}


def _collection_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = _option(options, "file_format", "json", ("json", "jsonl", "yaml", "txt"))
    plain = value if isinstance(value, (dict, list)) else list(value)

    def write(path: str) -> None:
        import json

        with open(path, "w", encoding="utf-8") as file:
            if form == "yaml":
                try:
                    import yaml
                except ImportError:
                    raise Refused("yaml needs PyYAML; add pyyaml to the function's requirements") from None
                yaml.safe_dump(plain, file)
            elif form == "txt":
                file.write(str(plain))
            elif form == "jsonl" and isinstance(plain, list):
                file.writelines(json.dumps(item, default=_plain) + "\n" for item in plain)
            else:
                json.dump(plain, file, default=_plain, indent=4)

    packager = _COLLECTION_PACKAGERS[type(value)]
    return _temporary_file(key, form, value, packager, {"file_format": form}, write)


def _plain(value: Any) -> Any:
    """Help json with numpy values; anything else has no place in a file that is read back."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise Refused("it contains a value of type %s, which JSON does not have" % _type_name(value))


def _path(key: str, value: Any, options: dict[str, Any]) -> Packed:
    path = os.fspath(value)
    packager = "StrPackager" if isinstance(value, str) else "PathPackager"
    if os.path.isfile(path):
        return _file(key, os.path.abspath(path), value, packager, {"is_directory": False}, "path")
    if not os.path.isdir(path):
        raise Refused("there is no file or folder %s" % path)
    form = _option(options, "archive_format", "zip", _ARCHIVES)

    def write(target: str) -> None:
        import shutil

        stem = target[: -len(form) - 1]
        made = shutil.make_archive(stem, _ARCHIVES[form], path)
        if made != target:
            os.replace(made, target)

    instructions = {"archive_format": form, "is_directory": True}
    return _temporary_file(key, form, value, packager, instructions, write, "path")


def _array_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = _option(options, "file_format", "npy", ("npy", "npz", "txt", "gz", "csv"))
    import numpy

    def write(path: str) -> None:
        if form == "npy":
            numpy.save(path, value)
        elif form == "npz":
            numpy.savez(path, **{key: value})
        elif value.ndim > 2:
            raise Refused("an array of %d dimensions cannot be written as %s" % (value.ndim, form))
        else:
            numpy.savetxt(path, value, delimiter="," if form == "csv" else " ")

    return _temporary_file(key, form, value, "NumPyNDArrayPackager", {"file_format": form}, write)


def _arrays_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = _option(options, "file_format", "npz", ("npz",))
    import numpy

    def write(path: str) -> None:
        if isinstance(value, dict):
            numpy.savez(path, **{str(name): item for name, item in value.items()})
        else:
            numpy.savez(path, *value)

    packager = "NumPyNDArrayDictPackager" if isinstance(value, dict) else "NumPyNDArrayListPackager"
    return _temporary_file(key, form, value, packager, {"file_format": form}, write)


def _array_dataset(key: str, value: Any, _options: dict[str, Any]) -> Packed:
    if value.ndim > 2:
        raise Refused("a data set has two dimensions, the array %d" % value.ndim)
    import pandas

    frame = pandas.DataFrame(value)
    frame.columns = [str(name) for name in frame.columns]
    return _dataset(key, frame, value, "NumPyNDArrayPackager", "")


def _frame_dataset(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = _option(options, "file_format", "parquet", ("parquet", "pq", "csv"))
    return _dataset(key, value, value, "PandasDataFramePackager", form)


def _dataset(key: str, frame: Any, value: Any, packager: str, form: str) -> Packed:
    import millrace

    artifact = millrace.DatasetArtifact(key, df=frame, format=form)
    _record(artifact, value, packager, {}, "dataset")
    return Packed(artifact=artifact)


_WRITERS = {"parquet": "to_parquet", "csv": "to_csv", "json": "to_json", "feather": "to_feather", "orc": "to_orc",
            "xml": "to_xml", "xlsx": "to_excel", "html": "to_html", "h5": "to_hdf"}  # fmt: skip


def _frame_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    series = not hasattr(value, "columns")
    frame = value.to_frame() if series else value
    textual = all(isinstance(name, str) for name in frame.columns)
    form = _option(options, "file_format", "parquet" if textual else "csv", _WRITERS)
    instructions: dict[str, Any] = {"file_format": form, "read_kwargs": {}}
    if series:
        instructions["column_name"] = value.name
    # parquet keeps the index; the others get it as columns. The returned frame itself stays as it is.
    written = frame
    if form != "parquet":
        written, instructions["read_kwargs"] = _flatten(frame)

    def write(path: str) -> None:
        writer = getattr(written, _WRITERS[form])
        if form in ("csv", "xlsx", "xml"):
            writer(path, index=False)
        elif form == "h5":
            writer(path, key="table")
        else:
            writer(path)

    packager = "PandasSeriesPackager" if series else "PandasDataFramePackager"
    return _temporary_file(key, form, value, packager, instructions, write)


def _flatten(frame: Any) -> tuple[Any, dict[str, Any]]:
    """Return a copy with the index as its first columns and one level of column names, and how to undo that."""
    flat = frame.copy(deep=False)
    levels = list(frame.columns.names)
    columns = [list(column) if isinstance(column, tuple) else column for column in frame.columns]
    if len(levels) > 1:
        flat.columns = ["-".join(map(str, column)) for column in columns]
    index_levels = list(frame.index.names)
    taken = set(flat.columns)
    names = [
        name if name is not None and name not in taken else "INDEX_%s_%d" % (name, number)
        for number, name in enumerate(index_levels)
    ]
    flat = flat.rename_axis(index=names if len(names) > 1 else names[0]).reset_index()
    undo = {"columns": columns, "columns_levels": levels, "index_levels": index_levels}
    return flat, {"unflatten_kwargs": undo}


def _plot(key: str, value: Any, _options: dict[str, Any]) -> Packed:
    import millrace

    return Packed(artifact=millrace.PlotArtifact(key, body=value))


def _plotly(key: str, value: Any, _options: dict[str, Any]) -> Packed:
    import millrace

    return Packed(artifact=millrace.PlotlyArtifact(figure=value, key=key))


_MAKERS = {
    ("str", "path"): _path,
    ("path", "path"): _path,
    ("collection", "file"): _collection_file,
    ("arrays", "file"): _arrays_file,
    ("array", "file"): _array_file,
    ("array", "dataset"): _array_dataset,
    ("frame", "dataset"): _frame_dataset,
    ("frame", "file"): _frame_file,
    ("series", "file"): _frame_file,
    ("figure", "plot"): _plot,
    ("plotly", "plotly"): _plotly,
    ("plotly", "plot"): _plotly,
}
