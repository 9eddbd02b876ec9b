"""Clean a table: columns by name, defaults that are recorded, a scaler by its class's name."""

import mlrun
from mlrun.errors import MLRunInvalidArgumentError
from mlrun.utils.helpers import create_class


def clean(context: mlrun.MLClientCtx, raw: mlrun.DataItem, columns: list = None, label_column: str = "label"):
    df = raw.as_df(columns=columns)
    if label_column not in df.columns:
        raise MLRunInvalidArgumentError(f"there is no column {label_column}")
    scaler = create_class(context.get_param("scaler", "sklearn.preprocessing.MinMaxScaler"))()
    features = df.columns.drop(label_column)
    df[features] = scaler.fit_transform(df[features].fillna(df[features].mean())).round(6)
    context.set_label("stage", "clean")
    context.set_annotation("by", context.name)
    context.log_result("limit", context.get_param("limit", 0))
    context.log_result("parameters", sorted(context.parameters))
    context.log_dataset(
        "cleaned",
        df=df,
        format="csv",
        index=False,
        labels={"data-type": "cleaned"},
        artifact_path=context.artifact_subpath("data"),
        label_column=label_column,
    )
    train, test = df.iloc[: len(df) // 2], df.iloc[len(df) // 2 :]
    context.log_dataset("held-out", df=test.reset_index(drop=True), format="parquet")
    return len(train), len(test)
