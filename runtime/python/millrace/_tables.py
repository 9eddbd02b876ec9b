"""Arrays and frames as artifacts: the formats of NumPy and pandas."""

from __future__ import annotations

from millrace._pack import Packed, Refused, option, record, temporary_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _array_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = option(options, "file_format", "npy", ("npy", "npz", "txt", "gz", "csv"))
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

    return temporary_file(key, form, value, "NumPyNDArrayPackager", {"file_format": form}, write)


def _arrays_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = option(options, "file_format", "npz", ("npz",))
    import numpy

    def write(path: str) -> None:
        if isinstance(value, dict):
            numpy.savez(path, **{str(name): item for name, item in value.items()})
        else:
            numpy.savez(path, *value)

    packager = "NumPyNDArrayDictPackager" if isinstance(value, dict) else "NumPyNDArrayListPackager"
    return temporary_file(key, form, value, packager, {"file_format": form}, write)


def _array_dataset(key: str, value: Any, _options: dict[str, Any]) -> Packed:
    if value.ndim > 2:
        raise Refused("a data set has two dimensions, the array %d" % value.ndim)
    import pandas

    frame = pandas.DataFrame(value)
    frame.columns = [str(name) for name in frame.columns]
    return _dataset(key, frame, value, "NumPyNDArrayPackager", "")


def _frame_dataset(key: str, value: Any, options: dict[str, Any]) -> Packed:
    form = option(options, "file_format", "parquet", ("parquet", "pq", "csv"))
    return _dataset(key, value, value, "PandasDataFramePackager", form)


def _dataset(key: str, frame: Any, value: Any, packager: str, form: str) -> Packed:
    import millrace

    artifact = millrace.DatasetArtifact(key, df=frame, format=form)
    record(artifact, value, packager, {}, "dataset")
    return Packed(artifact=artifact)


_WRITERS = {"parquet": "to_parquet", "csv": "to_csv", "json": "to_json", "feather": "to_feather", "orc": "to_orc",
            "xml": "to_xml", "xlsx": "to_excel", "html": "to_html", "h5": "to_hdf"}  # fmt: skip


def _frame_file(key: str, value: Any, options: dict[str, Any]) -> Packed:
    series = not hasattr(value, "columns")
    frame = value.to_frame() if series else value
    textual = all(isinstance(name, str) for name in frame.columns)
    form = option(options, "file_format", "parquet" if textual else "csv", _WRITERS)
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
    return temporary_file(key, form, value, packager, instructions, write)


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


MAKERS = {
    ("arrays", "file"): _arrays_file,
    ("array", "file"): _array_file,
    ("array", "dataset"): _array_dataset,
    ("frame", "dataset"): _frame_dataset,
    ("frame", "file"): _frame_file,
    ("series", "file"): _frame_file,
}
