"""Frames from data items, and how a notebook shows them; pandas has to be in the function's environment."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._data import DataItem


def read(
    item: DataItem,
    columns: list[str] | None,
    df_module: Any,
    format: str,
    time_column: str | None,
    start_time: Any,
    end_time: Any,
    filters: Any,
    options: dict[str, Any],
) -> Any:
    """Read csv, parquet, json, jsonl or xlsx, by format or suffix; a folder is its CSV or Parquet files.

    With a time_column only the rows with start_time < time <= end_time are
    returned, with times in it; filters ([(column, operator, value)]) are for parquet only.
    """
    if item.kind == "memory":
        held = item.get()
        if not isinstance(held, (bytes, str)):
            return held[list(columns)] if columns else held
    pandas = df_module or _pandas()
    if (start_time is not None or end_time is not None) and not time_column:
        raise ValueError("as_df needs the time_column that start_time and end_time are about")
    kind = (format or item.suffix.lstrip(".")).lower()
    path = item.local()
    wanted = None if columns is None else list(columns)
    if wanted is not None and time_column and time_column not in wanted:
        wanted.append(time_column)
    try:
        frame = _read(pandas, path, kind, wanted, filters, options, item)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        # pyarrow's own, or its OSError without a number for data that are damaged inside.
        damaged = type(error).__module__.startswith("pyarrow") or (isinstance(error, OSError) and error.errno is None)
        if kind in ("parquet", "pq") and damaged:
            raise ValueError("%s is not a complete Parquet file: %s" % (item, " ".join(str(error).split()))) from None
        raise
    if time_column:
        frame = _between(pandas, frame, time_column, start_time, end_time)
    return frame[list(columns)] if columns is not None and wanted != list(columns) else frame


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("as_df needs pandas; add pandas to the function's requirements") from None
    return pandas


def _read(
    pandas: Any, path: str, kind: str, columns: list[str] | None, filters: Any, options: dict[str, Any], item: DataItem
) -> Any:
    if os.path.isdir(path) and kind != "csv":
        kind = "parquet" if kind not in ("parquet", "pq") else kind
    if kind == "csv":
        if columns is not None:
            options = dict({"usecols": columns}, **options)
        if not os.path.isdir(path):
            return pandas.read_csv(path, **options)
        names = sorted(name for name in os.listdir(path) if name.endswith(".csv"))
        paths = [os.path.join(path, name) for name in names if os.path.getsize(os.path.join(path, name))]
        if not paths:
            raise FileNotFoundError("the folder %s has no CSV files" % item)
        return pandas.concat([pandas.read_csv(part, **options) for part in paths])
    if kind in ("parquet", "pq"):
        if filters:
            options = dict({"filters": filters}, **options)
        try:
            return pandas.read_parquet(path, columns=columns, **options)
        except ImportError:
            raise ImportError("as_df reads Parquet with pyarrow; add pyarrow to the function's requirements") from None
    if kind in ("json", "jsonl"):
        frame = pandas.read_json(path, **dict({"lines": True} if kind == "jsonl" else {}, **options))
    elif kind in ("xls", "xlsx"):
        frame = pandas.read_excel(path, **options)
    else:
        raise ValueError(
            "%s has no format that as_df knows; pass format='csv', 'parquet', 'json', 'jsonl' or 'xlsx'" % item
        )
    return frame[columns] if columns is not None else frame


def _between(pandas: Any, frame: Any, column: str, start: Any, end: Any) -> Any:
    if column not in frame.columns:
        raise ValueError("the data has no column %r to compare times with" % column)
    times = frame[column]
    if not hasattr(times, "dt"):  # text, as csv and json have it
        mixed = int(str(pandas.__version__).partition(".")[0]) >= 2
        times = pandas.to_datetime(times, **{"format": "mixed", "yearfirst": True} if mixed else {})
        frame = frame.assign(**{column: times})
    keep = times.notna()
    for bound, after in ((start, True), (end, False)):
        if bound is None:
            continue
        bound = pandas.Timestamp(bound)
        # A time without an offset is one of UTC.
        if times.dt.tz is None and bound.tzinfo is not None:
            bound = bound.tz_convert("UTC").tz_localize(None)
        elif times.dt.tz is not None and bound.tzinfo is None:
            bound = bound.tz_localize("UTC")
        keep &= times > bound if after else times <= bound
    return frame[keep]


def show(item: DataItem, format: str | None) -> None:
    """Show an item in a notebook."""
    try:
        from IPython import display, get_ipython
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        raise RuntimeError("show() is for notebooks; get() returns what is at %s" % item)
    kind = (format or item.suffix.lstrip(".")).lower()
    if kind in ("png", "jpg", "jpeg", "gif"):
        display.display(display.Image(item.get(), format="jpeg" if kind == "jpg" else kind))
    elif kind in ("htm", "html"):
        display.display(display.HTML(item.get(encoding="utf-8")))
    elif kind in ("csv", "pq", "parquet"):
        display.display(item.as_df(format=kind))
    elif kind == "json":
        import json

        display.display(display.JSON(json.loads(item.get())))
    elif kind == "md":
        display.display(display.Markdown(item.get(encoding="utf-8")))
    elif kind in ("yaml", "yml", "txt", "py"):
        display.display(display.Code(item.get(encoding="utf-8"), language="python" if kind == "py" else "yaml"))
    else:
        raise ValueError("%s has no format that show() knows; pass format='html', 'png', 'csv', …" % item)
