"""Pack values of many types, then read them back as what they were."""

import mlrun
import numpy as np
import pandas as pd


class Point:
    def __init__(self, x):
        self.x = x


def produce(seed: int = 3):
    frame = pd.DataFrame({"n": [1, 2, 3], "s": ["a", "b", "c"]})
    return (
        frame,
        frame,
        frame["n"],
        np.arange(seed * 5),
        {"a": np.arange(seed)},
        {"deep": [1, {"x": 1.5}]},
        (1, 2),
        b"bytes",
        complex(1, seed),
    )


def consume(
    context: mlrun.MLClientCtx,
    frame: pd.DataFrame,
    table: pd.DataFrame,
    series: pd.Series,
    array: np.ndarray,
    arrays: dict[str, np.ndarray],
    mapping: dict,
    pair: tuple,
    raw: bytes,
    number: complex,
):
    context.log_result("frames", [frame.to_dict("list"), table.to_dict("list")])
    context.log_result("series", [series.name, series.tolist()])
    context.log_result("arrays", [array.tolist(), {k: v.tolist() for k, v in arrays.items()}])
    context.log_result("plain", [mapping, list(pair), raw.decode(), str(number)])
