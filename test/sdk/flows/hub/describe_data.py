"""Describe a table: statistics, a correlation table and a histogram as artifacts."""

import mlrun
import pandas as pd
import plotly.graph_objects as go
from mlrun.artifacts import Artifact, PlotlyArtifact, TableArtifact
from mlrun.datastore import DataItem
from mlrun.execution import MLClientCtx


def analyze(context: MLClientCtx, table: DataItem, label_column: str = "label", name: str = "dataset") -> None:
    df = table.as_df()
    context.logger.info("describing", rows=len(df))
    context.log_result("rows", len(df))
    context.log_result("missing", int(df.isna().sum().sum()))
    context.log_result("classes", {str(k): int(v) for k, v in df[label_column].value_counts().sort_index().items()})
    described = df.describe().round(6)
    context.log_artifact(TableArtifact("describe", df=described, visible=True))
    context.log_artifact(TableArtifact("correlation", df=df.drop(columns=[label_column]).corr().round(6)))
    figure = go.Figure(go.Histogram(x=df["a"].tolist()))
    figure.update_layout(title="a")
    artifact = context.log_artifact(PlotlyArtifact(figure=figure, key="histogram"))
    assert isinstance(artifact, Artifact)
    assert isinstance(context, mlrun.MLClientCtx)
    context.log_dataset(name, df=df, format="csv", index=False, stats=True, label_column=label_column)
    pd.testing.assert_frame_equal(df, table.as_df())
