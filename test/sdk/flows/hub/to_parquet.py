"""Turn an archive, and the answer of a database, into Parquet files."""

import os
import sqlite3

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlrun.datastore import DataItem
from mlrun.execution import MLClientCtx


def archive(context: MLClientCtx, archive_url: DataItem, chunksize: int = 20, key: str = "data", stats: bool = False):
    base = context.artifact_path
    os.makedirs(base, exist_ok=True)
    here = os.path.abspath("downloaded" + archive_url.suffix)
    archive_url.download(here)
    target = os.path.join(base, f"{context.name}-{key}.parquet")
    writer, chunks = None, 0
    for chunk in pd.read_csv(here, chunksize=chunksize):
        table = pa.Table.from_pandas(chunk, preserve_index=False)
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
        chunks += 1
    writer.close()
    context.log_dataset(key=key, df=None, stats=stats, format="parquet", target_path=target)
    context.log_results({"chunks": chunks, "size": archive_url.stat().size == os.path.getsize(here)})


def query(context: MLClientCtx, database: DataItem, sql_query: str, file_ext: str = "parquet"):
    with sqlite3.connect(database.local()) as connection:
        df = pd.read_sql_query(sql_query, connection)
    context.log_dataset("answer", df=df, format=file_ext, artifact_path=context.artifact_subpath("sql"), index=False)
    context.log_result("rows", len(df))
