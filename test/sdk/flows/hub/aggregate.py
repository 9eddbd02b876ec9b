"""Rolling and grouped aggregates of a time series; everything by log hints."""

import mlrun
import numpy as np
import pandas as pd


def aggregate(df: pd.DataFrame, keys: list, metric: str = "value", window: int = 2):
    grouped = df.groupby(keys)[metric].agg(["mean", "max"]).reset_index()
    rolled = df[metric].rolling(window).mean().fillna(0.0).rename("rolled")
    values = np.asarray(df[metric], dtype="float64")
    assert mlrun.get_or_create_ctx("aggregate").name
    return grouped, rolled, values, {"window": window, "keys": keys}, values.std().round(6)
