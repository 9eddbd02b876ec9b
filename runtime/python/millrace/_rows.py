"""Tables without pandas: rows of plain values, CSV files, and what is said about them.

Types are read off the values (integers, numbers, booleans, text; an empty text
of a CSV file is a missing value). Statistics of a file are taken up to the
10,000 rows of millrace._datasets, its rows are counted to the end.
"""

from __future__ import annotations

import csv
import os

from millrace import _datasets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_BINS = 20


class Rows:
    """A header and rows of as many values each."""

    def __init__(self, header: list[Any], rows: list[list[Any]]) -> None:
        self.header = header
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: Any) -> list[Any]:
        """Return the values of a column."""
        at = self.header.index(name)
        return [row[at] for row in self.rows]

    def without(self, names: list[Any]) -> Rows:
        """Return the rows without some columns."""
        keep = [at for at, name in enumerate(self.header) if name not in names]
        return Rows([self.header[at] for at in keep], [[row[at] for at in keep] for row in self.rows])

    def types(self) -> dict[Any, str]:
        """Return the type of each column: integer, number, boolean, datetime or string."""
        return {name: _type(row[at] for row in self.rows) for at, name in enumerate(self.header)}

    def describe(
        self, stats: bool | None, preview: int | None, unlimited: bool, length: int | None = None
    ) -> dict[str, Any]:
        """Return length, preview, header, schema and statistics; length is that of all rows if these are the first."""
        count = len(self.rows) if length is None else length
        shown = self.rows if unlimited else self.rows[: preview or _datasets.PREVIEW_ROWS]
        width = len(self.header) if unlimited else min(len(self.header), _datasets.PREVIEW_COLUMNS - 1)
        _datasets.check_cells(len(shown), width, "")
        header, types = self.header[:width], self.types()
        fields = [{"name": "index", "type": "integer"}]
        fields += [{"name": str(name), "type": types[name]} for name in header if name != "index"]
        found: dict[str, Any] = {
            "length": count,
            "header_original_length": len(self.header) + 1,
            "header": ["index", *header],
            "preview": [[number, *row[:width]] for number, row in enumerate(shown)],
            "schema": {"fields": fields, "primaryKey": ["index"], "pandas_version": "1.4.0"},
        }
        if _datasets.with_stats(stats, count, len(self.header), unlimited) and count == len(self.rows):
            found["stats"] = self.statistics()
        return found

    def statistics(self) -> dict[str, Any]:
        """Return count, mean, spread and histogram of numeric columns; count, unique and top of others."""
        if not self.rows:
            return {}
        types = self.types()
        found = {}
        for name in self.header:
            of = _numeric if types[name] in ("integer", "number") else _other
            found[str(name)] = of(self.column(name))
        return found

    def csv(self, index: bool = False) -> str:
        """Return the rows as CSV."""
        from io import StringIO

        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([""] * index + self.header)
        for number, row in enumerate(self.rows):
            writer.writerow([number] * index + ["" if value is None else value for value in row])
        return text.getvalue()

    def write(self, path: str, format: str, options: dict[str, Any]) -> None:
        """Write a file; index=True is the only option of CSV."""
        if format == "csv":
            unknown = sorted(set(options) - {"index"})
            if unknown:
                raise TypeError("rows are written as CSV without the options %s; make a pandas frame" % unknown)
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(self.csv(bool(options.get("index"))))
            return
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise ImportError(
                "a data set is written as Parquet by pyarrow; add pyarrow to the function's requirements, "
                "or pass format='csv'"
            ) from None
        columns = {str(name): self.column(name) for name in self.header}
        parquet.write_table(pyarrow.table(columns), path, version="2.4", **options)


def rows_of(data: Any, header: list[Any] | None = None) -> Rows:
    """Return Rows of a list of dicts, or of a list of rows whose first one is the header unless that is given."""
    if isinstance(data, dict) and data and all(isinstance(column, (list, tuple)) for column in data.values()):
        lengths = {len(column) for column in data.values()}
        if len(lengths) > 1:
            raise ValueError("the columns of the data set have different lengths (%s)" % _some(sorted(lengths)))
        return Rows(list(data), [list(row) for row in zip(*data.values())])
    if not isinstance(data, (list, tuple)):
        raise TypeError(
            "a data set is a pandas frame, a list of dicts, or a list of rows with a header, not %s; "
            "a file is given as local_path" % type(data).__name__
        )
    if data and all(isinstance(row, dict) for row in data):
        names = list(header or dict.fromkeys(name for row in data for name in row))
        return Rows(names, [[row.get(name) for name in names] for row in data])
    rows = list(data)
    for number, row in enumerate(rows):
        if not isinstance(row, (list, tuple)):
            raise TypeError("row %d of the data set is %s, not a list or a dict" % (number, type(row).__name__))
    if header is None:
        if not rows or not all(isinstance(name, str) for name in rows[0]):
            raise ValueError("the rows of the data set have no header; give it as header, or as the first row")
        header, rows = list(rows[0]), rows[1:]
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                "row %d of the data set has %d values, its header has %d names" % (number, len(row), len(header))
            )
    return Rows(list(header), [list(row) for row in rows])


def describe_file(
    path: str, format: str, stats: bool | None, preview: int | None, unlimited: bool
) -> dict[str, Any] | None:
    """Describe a CSV or Parquet file; None for another one, or one that nothing here can read."""
    kind = format or os.path.splitext(path)[1].lstrip(".").lower()
    if kind in ("parquet", "pq"):
        return _describe_parquet(path, preview or _datasets.PREVIEW_ROWS)
    if kind != "csv":
        return None
    rows: list[list[Any]] = []
    length = 0
    keep = max(preview or 0, _datasets.STATS_ROWS)
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            for row in reader:
                if not row:
                    continue
                length += 1
                if length <= keep:
                    rows.append((row + [""] * len(header))[: len(header)])
        except csv.Error as error:
            raise ValueError("%s is not CSV: line %d: %s" % (path, reader.line_num, error)) from None
    columns = [_values([row[at] for row in rows]) for at in range(len(header))]
    table = Rows(list(header), [list(row) for row in zip(*columns)])
    return table.describe(stats, preview, unlimited and length == len(rows), length)


def _describe_parquet(path: str, preview: int) -> dict[str, Any] | None:
    with open(path, "rb") as file:
        start = file.read(4)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4))
        end = file.read(4)
    if start != b"PAR1" or end != b"PAR1" or size < 12:
        raise ValueError("%s is not a complete Parquet file (%d bytes)" % (path, size))
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        return None
    try:
        with parquet.ParquetFile(path) as file:
            length, names = file.metadata.num_rows, file.schema_arrow.names
            rows: list[list[Any]] = []
            for batch in file.iter_batches(batch_size=preview, columns=names[: _datasets.PREVIEW_COLUMNS]):
                rows = [list(row) for row in zip(*batch.to_pydict().values())]
                break
    except Exception as error:
        raise ValueError("%s is not a complete Parquet file: %s" % (path, " ".join(str(error).split()))) from None
    found = Rows(list(names[: _datasets.PREVIEW_COLUMNS]), rows).describe(False, preview, False, length)
    found["header_original_length"] = len(names) + 1
    return found


def _values(texts: list[str]) -> list[Any]:
    """Return the values of a CSV column: all integers, all numbers, all booleans, or as they are."""
    given = [text for text in texts if text != ""]
    for kind in (_integer, float, _boolean):
        try:
            for text in given:
                kind(text)
        except ValueError:
            continue
        return [None if text == "" else kind(text) for text in texts] if given else [None] * len(texts)
    return [None if text == "" else text for text in texts]


def _integer(text: str) -> int:
    if len(text) > 18:
        raise ValueError
    return int(text)


def _boolean(text: str) -> bool:
    return {"True": True, "true": True, "False": False, "false": False}.get(text) or _no(text)


def _no(text: str) -> bool:
    if text not in ("False", "false"):
        raise ValueError
    return False


def _type(values: Iterable[Any]) -> str:
    kinds = set()
    missing = False
    for value in values:
        if value is None:
            missing = True
        elif isinstance(value, bool):
            kinds.add("boolean")
        elif isinstance(value, int):
            kinds.add("integer")
        elif isinstance(value, float):
            kinds.add("number")
        elif hasattr(value, "isoformat"):
            kinds.add("datetime")
        else:
            kinds.add("string")
    if kinds == {"integer"}:
        return "number" if missing else "integer"
    if kinds and kinds <= {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "string"


def _numeric(values: list[Any]) -> dict[str, Any]:
    numbers = sorted(float(value) for value in values if value is not None and value == value)
    count = len(numbers)
    facts: dict[str, Any] = {"count": float(count)}
    if not count:
        return facts
    mean = sum(numbers) / count
    facts["mean"] = mean
    if count > 1:
        facts["std"] = (sum((number - mean) ** 2 for number in numbers) / (count - 1)) ** 0.5
    facts["min"] = numbers[0]
    for name, share in (("25%", 0.25), ("50%", 0.5), ("75%", 0.75)):
        at = (count - 1) * share
        low = int(at)
        high = min(low + 1, count - 1)
        facts[name] = numbers[low] + (numbers[high] - numbers[low]) * (at - low)
    facts["max"] = numbers[-1]
    low_edge, high_edge = numbers[0], numbers[-1]
    if count == len(values) and abs(low_edge) != float("inf") and abs(high_edge) != float("inf"):
        facts["hist"] = _histogram(numbers, low_edge, high_edge)
    return facts


def _histogram(numbers: list[float], low: float, high: float) -> list[list[Any]]:
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = (high - low) / _BINS
    edges = [low + step * number for number in range(_BINS)] + [high]
    counts = [0] * _BINS
    for number in numbers:
        at = min(int((number - low) / step), _BINS - 1) if step else 0
        # The division may be off by one place from the edges as they are.
        if at > 0 and number < edges[at]:
            at -= 1
        elif at < _BINS - 1 and number >= edges[at + 1]:
            at += 1
        counts[at] += 1
    return [counts, edges]


def _other(values: list[Any]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            counts[str(value)] = counts.get(str(value), 0) + 1
    facts: dict[str, Any] = {"count": sum(counts.values()), "unique": len(counts)}
    if counts:
        top = max(counts, key=lambda text: counts[text])
        facts.update(top=top, freq=counts[top])
    return facts


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")
