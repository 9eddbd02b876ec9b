"""Describe a table by pages and tables in a folder of their own, which its data set then names."""

from typing import Union

import mlrun
import mlrun.feature_store as fstore
import plotly.graph_objects as go
from mlrun.artifacts import Artifact, DatasetArtifact, PlotlyArtifact, TableArtifact, update_dataset_meta
from mlrun.datastore import DataItem
from mlrun.execution import MLClientCtx
from mlrun.feature_store import FeatureSet


def analyze(context: MLClientCtx, name: str = "dataset", table: Union[FeatureSet, DataItem] = None, plots_dest="plots"):
    stored = table.meta is not None and table.meta.kind == "dataset"
    df = table.as_df()
    extra_data = {
        "describe csv": context.log_artifact(
            TableArtifact("describe-csv", df=df.describe().round(6)), local_path=f"{plots_dest}/describe.csv"
        )
    }
    figure = go.Figure(go.Violin(y=df["a"].tolist()))
    extra_data["violin"] = context.log_artifact(
        PlotlyArtifact(key="violin", figure=figure), local_path=f"{plots_dest}/violin.html"
    )
    page = Artifact(key="hist", body=b"<b>see violin</b>", viewer="web-app")
    context.log_artifact(item=page, local_path=f"{plots_dest}/hist.html")
    try:
        raise KeyError("no column")
    except Exception as error:
        context.logger.warn(f"no pie: {error}", key="pie")
    if stored:
        update_dataset_meta(table.artifact_url, extra_data=extra_data)
    else:
        made = DatasetArtifact(key="dataset", stats=True, df=df, extra_data=extra_data)
        context.log_artifact(made, db_key=name)
    kinds = [type(table) is DataItem, isinstance(table, mlrun.DataItem), fstore.FeatureSet is FeatureSet]
    context.log_results({"stored": stored, "kinds": kinds, "pages": sorted(extra_data)})
