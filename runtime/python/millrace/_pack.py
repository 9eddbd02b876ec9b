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

    def discard(self) -> None:
        """Delete the temporary files."""
        if self.temporary:
            import shutil

            shutil.rmtree(self.temporary, ignore_errors=True)


# What a hint may say besides its own fields.
OPTIONS = ("file_format", "archive_format", "pickle_module_name")


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
    if maker is None and family in ("array", "arrays", "frame", "series"):
        from millrace import _tables

        maker = _tables.MAKERS.get((family, kind))
    if maker is None:
        raise Refused("a value of type %s cannot be packed as %s" % (_type_name(value), kind))
    packed: Packed = maker(key, value, options)
    return packed


def by(packager: Any, key: str, value: Any, kind: str, options: dict[str, Any]) -> Packed:
    """Pack one value with a packager of the project."""
    made = packager.pack(value, key, kind or None, options)
    if isinstance(made, dict):
        return Packed({name: _result(item, _family(item)) for name, item in made.items()})
    artifact, instructions = made
    chosen = kind or packager.get_default_packing_artifact_type(value)
    record(artifact, value, type(packager).__name__, instructions or {}, str(getattr(chosen, "value", chosen)))
    return Packed(artifact=artifact)


def log(context: MLClientCtx, packed: Packed, **options: Any) -> None:
    """Log the artifact of packed, if it has one, and delete its temporary files."""
    try:
        if packed.artifact is not None:
            options["labels"] = options.get("labels") or packed.artifact.labels or None
            context.log_artifact(packed.artifact, **options)
    finally:
        packed.discard()


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


def option(options: dict[str, Any], name: str, default: str, known: Any) -> str:
    """Return one of options, which must be among known."""
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
    record(artifact, value, packager, instructions, kind)
    return Packed(artifact=artifact)


def record(artifact: Any, value: Any, packager: str, instructions: dict[str, Any], kind: str) -> None:
    """Note in artifact how value was packed."""
    artifact.unpackaging_instructions = {
        "packager_name": packager,
        "object_type": _type_name(value),
        "artifact_type": kind,
        "instructions": instructions,
    }


def temporary_file(
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

    return temporary_file(key, "pkl", value, "DefaultPackager", instructions, write, "object")


_COLLECTION_PACKAGERS = {kind: kind.__name__.capitalize() + "Packager" for kind in _COLLECTIONS}


def _collection_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = option(options, "file_format", "json", ("json", "jsonl", "yaml", "txt"))
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
    return temporary_file(key, form, value, packager, {"file_format": form}, write)


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
    form = option(options, "archive_format", "zip", _ARCHIVES)

    def write(target: str) -> None:
        import shutil

        stem = target[: -len(form) - 1]
        made = shutil.make_archive(stem, _ARCHIVES[form], path)
        if made != target:
            os.replace(made, target)

    instructions = {"archive_format": form, "is_directory": True}
    return temporary_file(key, form, value, packager, instructions, write, "path")


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
    ("figure", "plot"): _plot,
    ("plotly", "plotly"): _plotly,
    ("plotly", "plot"): _plotly,
}
