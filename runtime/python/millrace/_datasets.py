"""Data sets and tables: content, preview, schema and statistics.

A data set is given as a pandas frame (or what has to_pandas), as rows
(millrace._rows), or as a CSV or Parquet file. A preview is the first 20 rows, or
as many as are asked for, and the first 100 columns; statistics are of all rows,
when there are fewer than 10,000 of them in fewer than 100 columns or when stats
is true.
"""

from __future__ import annotations

import os
import sys

from millrace import _content
from millrace._artifacts import Artifact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._content import Place
    from millrace._context import MLClientCtx

PREVIEW_ROWS = 20
PREVIEW_COLUMNS = 100
STATS_ROWS = 10000
_MAX_CELLS = 1_000_000  # of a preview
_BINS = 20
_FORMATS = ("", "csv", "parquet", "pq", "tsdb", "kv")


class TableArtifact(Artifact):
    """A table: text in CSV, or a frame that becomes it."""

    kind = "table"
    fields = ("schema", "header")
    header: Any
    schema: Any

    def __init__(
        self,
        key: str = "",
        body: Any = None,
        df: Any = None,
        viewer: str | None = None,
        visible: bool = False,
        inline: bool = False,
        format: str | None = None,
        header: list[Any] | None = None,
        schema: Any = None,
    ) -> None:
        if not format and "." in key.lstrip("."):
            format = key.rpartition(".")[2]
        super().__init__(key, body, viewer or ("table" if visible else None), inline, format)
        self.header, self.schema = header, schema
        self._df = df
        if df is not None:
            from millrace import _rows

            self._df = df = frame_of(df)
            rows = isinstance(df, _rows.Rows)
            self.header = list(df.header) if rows else df.reset_index(drop=True).columns.values.tolist()
            self.format = "csv"

    def has_body(self) -> bool:
        """Say whether there are rows or text."""
        return self.body is not None or self.__dict__.get("_df") is not None

    def get_body(self) -> Any:
        """Return the CSV."""
        df = self.__dict__.get("_df")
        if df is None:
            return self.body
        from millrace import _rows

        if isinstance(df, _rows.Rows):
            return df.csv(index=True)
        from io import StringIO

        text = StringIO()
        df.to_csv(text, **{"lineterminator" if _pandas_version() >= (1, 5) else "line_terminator": "\n"})
        return text.getvalue()


class DatasetArtifact(Artifact):
    """A data set; see the module's comment for what may be given as df."""

    kind = "dataset"
    prefix = "datasets"
    fields = (
        "schema", "header", "length", "column_metadata", "features", "partition_keys", "timestamp_key", "label_column",
    )  # fmt: skip
    facts = ("stats", "preview", "header_original_length")
    length: Any
    stats: Any
    preview: Any
    schema: Any
    header: Any
    header_original_length: Any

    def __init__(
        self,
        key: str = "",
        df: Any = None,
        preview: int | None = None,
        format: str = "",
        stats: bool | None = None,
        target_path: str = "",
        extra_data: dict[str, Any] | None = None,
        column_metadata: dict[str, Any] | None = None,
        ignore_preview_limits: bool = False,
        label_column: str | None = None,
        header: list[Any] | None = None,
        **writer: Any,
    ) -> None:
        format = (format or "").lower()
        if format not in _FORMATS:
            raise ValueError("the data set %r: the format %r is not known; use csv or parquet" % (key, format))
        super().__init__(key, format="parquet" if format == "pq" else format, target_path=target_path)
        self.extra_data = dict(extra_data or {})
        self.column_metadata = column_metadata or {}
        self.label_column = label_column
        self._writer = writer
        self._how = (stats, preview, ignore_preview_limits)
        self._df = None if df is None else frame_of(df, header)
        if self._df is not None:
            self.describe(self._df)

    @property
    def df(self) -> Any:
        """The frame or rows that were given."""
        return self._df

    def describe(self, df: Any) -> None:
        """Take preview, schema and statistics from a frame or rows."""
        from millrace import _rows

        columns = df.header if isinstance(df, _rows.Rows) else list(df.columns)
        labels = self.label_column if isinstance(self.label_column, (list, tuple)) else [self.label_column]
        for label in labels:
            if label and label not in columns:
                shown = ", ".join(str(column) for column in list(columns)[:20])
                raise ValueError(
                    "the data set %r has no column %r to be its label; its columns are %s" % (self.key, label, shown)
                )
        stats, rows, unlimited = self._how
        if isinstance(df, _rows.Rows):
            found = df.describe(stats, rows, unlimited)
        else:
            found = describe(df, stats, rows, unlimited, self.key)
        for name, value in found.items():
            setattr(self, name, value)

    def suffix(self, source: str | None) -> str:
        """Return the suffix of the file, or else of the format."""
        return super().suffix(source) or "." + self._written_format("")

    def _written_format(self, target: str) -> str:
        from millrace import _rows

        extension = os.path.splitext(target)[1].lower()
        default = "csv" if isinstance(self._df, _rows.Rows) else "parquet"
        return self.format or {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}.get(extension, default)

    def store(self, source: str | None, place: Place | None) -> None:
        """Write the frame, or copy the file."""
        if source and os.path.isfile(source):
            if self._df is None:
                from millrace import _rows

                found = _rows.describe_file(source, self.format or "", *self._how)
                for name, value in (found or {}).items():
                    setattr(self, name, value)
            super().store(source, place)
            return
        if self._df is None:
            if source and self.body is None and not os.path.exists(source) and (place or not self.target_path):
                raise FileNotFoundError("the data set %r: the file %s does not exist" % (self.key, source))
            super().store(source, place)
            return
        if place is None:
            return
        format = self._written_format(place.target)
        if format not in ("csv", "parquet"):
            raise ValueError("the data set %r: the format %r is not written; use csv or parquet" % (self.key, format))
        if place.target and not os.path.splitext(place.target)[1] and not place.target.startswith("memory://"):
            place.target += "." + format
        self.note(_content.made(lambda path: write(self._df, path, format, self._writer), place, "." + format))


def frame_of(df: Any, header: list[Any] | None = None) -> Any:
    """Return df as a pandas frame or as Rows."""
    if _is_frame(df):
        return df
    from millrace import _rows

    if isinstance(df, _rows.Rows):
        return df
    if hasattr(df, "dask"):
        return df.compute()
    if hasattr(df, "to_frame") and type(df).__module__.partition(".")[0] == "pandas":
        return df.to_frame()
    if hasattr(df, "to_pandas"):
        return df.to_pandas()
    return _rows.rows_of(df, header)


def _is_frame(df: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(df, pandas.DataFrame)


def _pandas_version() -> tuple[int, ...]:
    return tuple(int(part) for part in sys.modules["pandas"].__version__.split(".")[:2])


def describe(df: Any, stats: bool | None, rows: int | None, unlimited: bool, key: str = "") -> dict[str, Any]:
    """Return length, preview, header, schema and statistics of a pandas frame."""
    from pandas.io.json import build_table_schema

    found: dict[str, Any] = {"length": int(df.shape[0])}
    shown = df
    if found["length"] > (rows or PREVIEW_ROWS) and not unlimited:
        shown = df.head(rows or PREVIEW_ROWS)
    check_cells(len(shown), len(df.columns) if unlimited else min(len(df.columns), PREVIEW_COLUMNS), key)
    shown = shown.reset_index()
    found["header_original_length"] = len(shown.columns)
    if len(shown.columns) > PREVIEW_COLUMNS and not unlimited:
        shown = shown.iloc[:, :PREVIEW_COLUMNS]
    found["header"] = shown.columns.values.tolist()
    found["preview"] = shown.values.tolist()
    if "index" in shown.columns:
        shown = shown.drop("index", axis=1)
    found["schema"] = build_table_schema(shown)
    if with_stats(stats, found["length"], len(df.columns), unlimited):
        found["stats"] = statistics(df)
    return found


def check_cells(rows: int, columns: int, key: str) -> None:
    """Refuse a preview that would not fit into a document."""
    if rows * (columns + 1) > _MAX_CELLS:
        raise ValueError(
            "the preview of the data set %r would have %d rows of %d columns, more than a million values; "
            "give a smaller preview" % (key, rows, columns)
        )


def with_stats(stats: bool | None, rows: int, columns: int, unlimited: bool) -> bool:
    """Say whether statistics are taken."""
    return bool(stats) or (stats is None and rows < STATS_ROWS and columns < PREVIEW_COLUMNS) or unlimited


def statistics(df: Any) -> dict[str, Any]:
    """Return what describe says of each column of a pandas frame, and a histogram of the numeric ones."""
    if not len(df.columns):
        return {}
    import numpy
    from pandas.api.types import is_numeric_dtype

    options = {} if _pandas_version() >= (2, 0) else {"datetime_is_numeric": True}
    found: dict[str, Any] = {}
    for column, values in df.describe(include="all", **options).items():
        facts: dict[str, Any] = {}
        for name, value in values.dropna().items():
            if isinstance(value, (float, numpy.floating)):
                facts[name] = float(value)
            elif isinstance(value, (bool, numpy.bool_)):
                facts[name] = bool(value) if isinstance(value, bool) else str(value)
            elif isinstance(value, (int, numpy.integer)):
                facts[name] = int(value)
            else:
                facts[name] = str(value)
        try:
            if is_numeric_dtype(df[column]):
                counts, edges = numpy.histogram(df[column], bins=_BINS)
                facts["hist"] = [counts.tolist(), edges.tolist()]
        except Exception:  # missing values, infinities, a column that is there twice
            pass
        found[str(column)] = facts
    return found


def write(df: Any, path: str, format: str, options: dict[str, Any]) -> None:
    """Write a frame or rows as csv or parquet; the frame stays as it is."""
    from millrace import _rows

    if isinstance(df, _rows.Rows):
        df.write(path, format, options)
        return
    if format == "csv":
        from pandas import RangeIndex

        if isinstance(df.index, RangeIndex):
            options = dict({"index": False}, **options)
        df.to_csv(path, **options)
        return
    if not all(isinstance(column, str) for column in df.columns.tolist()):
        df = df.copy(deep=False)
        df.columns = [str(column) for column in df.columns.tolist()]
    try:
        df.to_parquet(path, **dict({"version": "2.4"} if "engine" not in options else {}, **options))
    except ImportError:
        raise ImportError(
            "a data set is written as Parquet by pyarrow; add pyarrow to the function's requirements, "
            "or pass format='csv'"
        ) from None


def log(
    context: MLClientCtx,
    key: Any,
    df: Any = None,
    tag: str = "",
    local_path: str | None = None,
    artifact_path: str | None = None,
    upload: bool | None = True,
    labels: dict[str, Any] | None = None,
    format: str = "",
    preview: int | None = None,
    stats: bool | None = None,
    db_key: str | bool | None = None,
    target_path: str = "",
    extra_data: dict[str, Any] | None = None,
    label_column: str | None = None,
    **options: Any,
) -> Artifact:
    """Log a data set. Further options go to DatasetArtifact and from there to what writes the file."""
    from millrace import _placing

    artifact = DatasetArtifact(
        key, df, preview, format, stats, extra_data=extra_data, label_column=label_column, **options
    )
    return _placing.log(
        context, artifact, None, local_path, artifact_path, tag,
        target_path=target_path, upload=upload, labels=labels, db_key=db_key,
    )  # fmt: skip


def update_meta(
    context: MLClientCtx,
    artifact: Any,
    from_df: Any = None,
    schema: dict[str, Any] | None = None,
    header: list[Any] | None = None,
    preview: list[Any] | None = None,
    stats: dict[str, Any] | None = None,
    extra_data: dict[str, Any] | None = None,
    column_metadata: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
    ignore_preview_limits: bool = False,
) -> Artifact:
    """Change what is recorded about a data set (an artifact, a DataItem or a store:// URI) and record it again.

    from_df is a frame from which preview, header, schema, length and statistics
    are taken; each of the others that is given wins over it.
    """
    from millrace._data import DataItem

    if hasattr(artifact, "artifact_url"):
        artifact = artifact.meta
    elif isinstance(artifact, str) and artifact.startswith("store://"):
        artifact = DataItem("", artifact).meta
    if not isinstance(artifact, DatasetArtifact):
        raise TypeError("update_dataset_meta takes a data set: its artifact, a DataItem of it or its store:// URI")
    if from_df is not None:
        artifact._how = (None, None, ignore_preview_limits)
        artifact.describe(frame_of(from_df))
    for name, value in (
        ("schema", schema), ("header", header), ("preview", preview), ("stats", stats),
        ("column_metadata", column_metadata),
    ):  # fmt: skip
        if value:
            setattr(artifact, name, value)
    artifact.labels.update((str(key), str(value)) for key, value in (labels or {}).items())
    for key, value in (extra_data or {}).items():
        artifact.extra_data[str(key)] = getattr(value, "target_path", None) or getattr(value, "artifact_url", value)
    return context.update_artifact(artifact)
