"""Aggregate the files of a folder."""

import os

import pandas as pd
from mlrun.datastore import DataItem


def aggregate(context, df_artifact: DataItem, metrics: list, window: int = 2):
    names = sorted(name for name in df_artifact.listdir() if name.endswith((".csv", ".pq")))
    paths = [os.path.join(df_artifact.url, name) for name in names]
    df = pd.concat([context.get_dataitem(path).as_df() for path in paths], ignore_index=True)
    rolled = df.loc[:, metrics].rolling(window=window).aggregate(["mean", "max"])
    rolled.columns = ["_".join(column) for column in rolled.columns.values]
    result = pd.merge(df, rolled, left_index=True, right_index=True).dropna()
    context.logger.info(names)
    context.log_dataset(key="aggregate", df=result, format="parquet")
    context.log_result("files", names)
