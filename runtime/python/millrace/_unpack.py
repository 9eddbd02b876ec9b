"""Inputs as the types that a handler asks for."""

from __future__ import annotations

import os

from millrace import _context, _hints
from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_FRAMES = {
    "csv": "read_csv",
    "parquet": "read_parquet",
    "pq": "read_parquet",
    "json": "read_json",
    "feather": "read_feather",
    "orc": "read_orc",
    "h5": "read_hdf",
    "xml": "read_xml",
    "xls": "read_excel",
    "xlsx": "read_excel",
}
_ARCHIVES = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tar.bz2": "bztar", ".tar.xz": "xztar"}
# What an archive may become, against those that are made to fill a disk.
_SMALL = 1 << 30
_RATIO = 100
_MEMBERS = 1_000_000


def for_handler(function: Any, hints: dict[str, str]) -> Callable[[str, Any, Any], Any]:
    """Return what turns an input of function into its type: parse with the run's hints before the annotation."""
    plain = function
    while hasattr(plain, "__wrapped__"):
        plain = plain.__wrapped__
    plain = getattr(plain, "__func__", plain)
    namespace = getattr(plain, "__globals__", {})

    def typed(key: str, item: Any, annotation: Any) -> Any:
        if key in hints:
            return parse(key, item, hints[key], namespace, by_name=True)
        return item if annotation is None else parse(key, item, annotation, namespace)

    return typed


def parse(key: str, item: Any, hint: Any, namespace: dict[str, Any], by_name: bool = False) -> Any:
    """Return the input key as what hint asks for; item itself if it asks for nothing else.

    The types are tried in order. An artifact that was packed by `returns` is
    unpacked by what was recorded then. A hint that cannot be resolved, and data
    that fit none of its types, are UserErrors.
    """
    try:
        kinds = _hints.named(hint, namespace) if by_name else _hints.types_of(hint, namespace)
    except _hints.Unresolved as error:
        shown = hint if isinstance(hint, str) else getattr(hint, "__name__", str(hint))
        raise UserError("the input %r has the type hint %s: %s" % (key, shown, error)) from None
    if not kinds:
        return item
    problems: list[str] = []
    for kind in kinds:
        try:
            return unpack(item, kind)
        except Exception as error:
            problems.append("%s: %s" % (kind.__name__, str(error) or type(error).__name__))
    raise UserError("the input %r (%s) cannot be read as %s" % (key, item.url, "; as ".join(problems))) from None


def unpack(item: Any, kind: type) -> Any:
    """Return the content of item as kind."""
    recorded = _recorded(item)
    context = _context._current
    if context is not None and (context._document.get("spec") or {}).get("custom_packagers"):
        from millrace import _packagers

        found, value = _packagers.unpack(_packagers.of_run(context), item, kind, recorded)
        if found:
            return value
    how, options = recorded.get("artifact_type") or "", recorded.get("instructions") or {}
    if how == "object":
        return unpickle(item, options)
    module = kind.__module__.partition(".")[0]
    if kind in (dict, list) and options.get("file_format") == "npz":
        return _arrays(item, kind)
    if kind in (bool, int, float):
        return _number(item, kind)
    if kind is str or (module == "pathlib" and issubclass(kind, os.PathLike)):
        make: Any = kind
        return make(_path(item, options))
    if kind in (bytes, bytearray):
        return kind(bytes(_structure(item, options))) if how == "file" else kind(item.get())
    if kind in (dict, list, tuple, set, frozenset):
        return _collection(item, kind, options)
    if module == "pandas" and kind.__name__ in ("DataFrame", "Series"):
        frame = _frame(item, how, options)
        return frame if kind.__name__ == "DataFrame" else _series(frame, options)
    if module == "numpy":
        return _array(item, kind, how, options)
    return unpickle(item, options)


def _recorded(item: Any) -> dict[str, Any]:
    """Return how the artifact behind item was packed; {} if it was not, or is none."""
    meta = item.meta
    for holder in (meta, getattr(meta, "spec", None)):
        found = getattr(holder, "unpackaging_instructions", None)
        if isinstance(found, dict):
            return found
    if isinstance(meta, dict):
        found = (meta.get("spec") or {}).get("unpackaging_instructions")
        return found if isinstance(found, dict) else {}
    return {}


def _suffix(item: Any) -> str:
    return str(item.suffix).lower().lstrip(".")


def _path(item: Any, options: dict[str, Any]) -> str:
    """Return a local path; the folder of what was packed as a folder."""
    path = str(item.local())
    if not options.get("is_directory") or os.path.isdir(path):
        return path
    import shutil
    import tempfile

    kind = options.get("archive_format") or ""
    suffixes = [suffix for suffix in _ARCHIVES if path.endswith(suffix) or suffix == "." + kind]
    if not suffixes:
        raise ValueError("%s is an archive of no known kind (%s)" % (path, ", ".join(_ARCHIVES)))
    folder = tempfile.mkdtemp(prefix="input-")
    try:
        _extract(path, folder, _ARCHIVES[max(suffixes, key=len)])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    inner = os.listdir(folder)
    shutil.copystat(path, folder)
    single = os.path.join(folder, inner[0]) if len(inner) == 1 else folder
    return single if os.path.isdir(single) else folder


def _extract(path: str, folder: str, kind: str) -> None:
    """Extract an archive; one with a member that would land outside of folder, or that becomes too large, is an error.

    A small archive may hold _SMALL bytes, a larger one _RATIO times its own size.
    """
    root = os.path.realpath(folder) + os.sep
    limit = max(_SMALL, _RATIO * os.path.getsize(path))
    size = count = 0

    def check(name: str, length: int) -> None:
        nonlocal size, count
        size, count = size + length, count + 1
        if not (os.path.realpath(os.path.join(folder, name)) + os.sep).startswith(root):
            raise ValueError("the archive has the member %r, which lies outside of it" % name)
        if size > limit:
            raise ValueError("the archive unpacks to more than the %d bytes that one of its size may hold" % limit)
        if count > _MEMBERS:
            raise ValueError("the archive has more than %d members" % _MEMBERS)

    if kind == "zip":
        import zipfile

        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                check(info.filename, info.file_size)
            archive.extractall(folder)
        return
    import tarfile

    with tarfile.open(path) as tar:
        for member in tar:  # each is judged before what it holds is read
            check(member.name, member.size)
            if not (member.isfile() or member.isdir()):
                raise ValueError("the archive has the member %r, which is no file and no folder" % member.name)
        tar.extractall(folder)  # noqa: S202 - the members were checked


def _number(item: Any, kind: type) -> Any:
    if _suffix(item) in ("pkl", "pickle"):
        return kind(unpickle(item, {}))
    text = item.get(encoding="utf-8").strip()
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError("%r is neither true nor false" % text[:40])
        return text.lower() in _TRUE
    return kind(text)


def _structure(item: Any, options: dict[str, Any]) -> Any:
    """Return what a json, jsonl, yaml or txt (Python literal) file holds."""
    form = options.get("file_format") or _suffix(item) or "json"
    text = item.get(encoding="utf-8")
    if form in ("yaml", "yml"):
        try:
            import yaml
        except ImportError:
            raise ImportError("reading yaml needs PyYAML; add pyyaml to the function's requirements") from None
        return yaml.safe_load(text)
    import json

    if form == "json":
        return json.loads(text)
    if form == "jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if form == "txt":
        from ast import literal_eval

        return literal_eval(text)
    raise ValueError("its format %r is none of json, jsonl, yaml, txt" % form)


def _collection(item: Any, kind: type, options: dict[str, Any]) -> Any:
    pickled = _suffix(item) in ("pkl", "pickle")
    value = unpickle(item, {}) if pickled else _structure(item, options)
    if kind is dict:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise TypeError("it holds a %s" % type(value).__name__)
        return value
    if isinstance(value, dict) and kind is list:
        return [value]
    if isinstance(value, (str, int, float)) or value is None:
        raise TypeError("it holds %s" % type(value).__name__)
    return kind(value)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("this needs pandas; add pandas to the function's requirements") from None
    return pandas


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise ImportError("this needs numpy; add numpy to the function's requirements") from None
    return numpy


def _is_dataset(item: Any, how: str) -> bool:
    return how == "dataset" or str(item.artifact_url).startswith("store://datasets/")


def _frame(item: Any, how: str, options: dict[str, Any]) -> Any:
    form = options.get("file_format") or _suffix(item)
    if _is_dataset(item, how) or form not in _FRAMES:
        return item.as_df()
    read = dict(options.get("read_kwargs") or {})
    flat = read.pop("unflatten_kwargs", None)
    frame = getattr(_pandas(), _FRAMES[form])(item.local(), **read)
    return _unflatten(frame, flat) if flat else frame


def _unflatten(frame: Any, flat: dict[str, Any]) -> Any:
    """Give a frame back the index and the column levels that it had before it was written as plain columns."""
    pandas = _pandas()
    names = list(flat.get("index_levels") or [None])
    frame = frame.set_index(list(frame.columns[: len(names)]))
    frame.index = frame.index.set_names(names)
    levels = list(flat.get("columns_levels") or [None])
    columns = list(flat.get("columns") or frame.columns)
    if len(levels) > 1:
        frame.columns = pandas.MultiIndex.from_tuples([tuple(column) for column in columns], names=levels)
    else:
        frame.columns = pandas.Index(columns, name=levels[0])
    return frame


def _series(frame: Any, options: dict[str, Any]) -> Any:
    if len(frame.columns) != 1:
        raise ValueError("it has %d columns, a Series is one" % len(frame.columns))
    series = frame[frame.columns[0]]
    return series.rename(options["column_name"]) if "column_name" in options else series


def _array(item: Any, kind: type, how: str, options: dict[str, Any]) -> Any:
    numpy = _numpy()
    if not issubclass(kind, numpy.ndarray):
        return kind(_number(item, float))
    if _is_dataset(item, how):
        return item.as_df().to_numpy()
    form = options.get("file_format") or _suffix(item)
    path = item.local()
    if form == "npy":
        return numpy.load(path)
    if form == "npz":
        with numpy.load(path) as arrays:
            if len(arrays.files) != 1:
                raise ValueError("it has %d arrays; ask for a dict or a list of them" % len(arrays.files))
            return arrays[arrays.files[0]]
    if form in ("txt", "gz", "csv"):
        return numpy.loadtxt(path, delimiter="," if form == "csv" else None)
    if form in ("pkl", "pickle"):
        return unpickle(item, options)
    return item.as_df().to_numpy()


def _arrays(item: Any, kind: type) -> Any:
    with _numpy().load(item.local()) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return found if kind is dict else list(found.values())


def unpickle(item: Any, options: dict[str, Any]) -> Any:
    """Load a pickle with the module that wrote it, which options name."""
    module: Any = None
    for name in (options.get("pickle_module_name"), "cloudpickle", "pickle"):
        if name not in ("cloudpickle", "pickle", "joblib", "dill"):
            continue
        try:
            module = __import__(name)
        except ImportError:
            continue
        break
    with open(item.local(), "rb") as file:
        return module.load(file)
