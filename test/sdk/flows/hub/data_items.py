"""Everything that can be asked of a data item."""

import datetime
import os

import mlrun


def ask(context: mlrun.MLClientCtx, table: mlrun.DataItem, frame: mlrun.DataItem, rows: mlrun.DataItem):
    context.log_result("names", [table.key, table.kind, table.suffix, frame.suffix, table.artifact_url == table.url])
    context.log_result("meta", [table.meta is None, table.get_artifact_type() is None, str(table) == table.url])
    context.log_result("bytes", [table.get(4).decode(), table.get(3, 2).decode(), table.get(2, encoding="utf-8")])
    stat = table.stat()
    context.log_result("stat", [stat.size, stat.modified == os.path.getmtime(table.url), stat.content_type is None])
    with table.open("r") as file:
        context.log_result("line", file.readline())
    context.log_result("local", [table.local() == table.url, mlrun.get_object(table.url, size=2).decode()])

    after, until = datetime.datetime(2020, 6, 1), datetime.datetime(2022, 1, 1)
    read = {
        "columns": table.as_df(columns=["b"]),
        "times": table.as_df(time_column="t", start_time=after, end_time=until),
        "only": table.as_df(columns=["a"], time_column="t", start_time=after),
        "some": table.as_df(nrows=1),
        "csv filters": table.as_df(additional_filters=[("a", "=", 1)]),
        "filters": frame.as_df(additional_filters=[("a", ">", 1)]),
        "parquet": frame.as_df(columns=["b"]),
        "json": rows.as_df(columns=["a"]),
    }
    for name, df in read.items():
        found = {
            "columns": list(df.columns),
            "types": [str(kind) for kind in df.dtypes],
            "rows": df.astype(str).values.tolist(),
        }
        context.log_result(name, found)

    path = os.path.abspath("written/deep.txt")
    item = context.get_dataitem(path)
    item.put("one")
    item.put(" two", append=True)
    copy = context.get_dataitem(path + ".copy")
    copy.upload(path)
    copy.download(path + ".again")
    context.log_result(
        "files", [item.get(encoding="utf-8"), sorted(context.get_dataitem(os.path.dirname(path)).listdir())]
    )
    copy.delete()
    held = mlrun.get_dataitem("memory://held.csv")
    held.put(b"a,b\n1,2\n")
    context.log_result(
        "held", [held.get(encoding="utf-8"), held.as_df().values.tolist(), os.path.exists(path + ".copy")]
    )
    context.log_result("input", [context.get_input("later", table.url).url == table.url, "later" in context.inputs])
    context.log_result("uris", [mlrun.datastore.is_store_uri(uri) for uri in ("store://p/k", "s3://b/k")])
    try:
        item.put(5)
    except TypeError:
        context.log_result("refused", True)
