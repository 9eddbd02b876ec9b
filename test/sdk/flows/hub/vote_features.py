"""Select features by votes; which kind of thing the input is, its URI says."""

import mlrun
import mlrun.datastore
import mlrun.feature_store as fs
import mlrun.utils
import pandas as pd
import plotly.express as px
from mlrun.artifacts import PlotlyArtifact
from mlrun.datastore.targets import ParquetTarget
from mlrun.utils.helpers import create_class
from sklearn.feature_selection import SelectFromModel, SelectKBest


def plot(context, name, scores):
    figure = px.bar(x=scores.values.tolist(), y=scores.index.tolist(), title=name)
    context.log_artifact(item=PlotlyArtifact(key=name, figure=figure), local_path=f"{name}.html")


def select(context, df_artifact, label_column: str, k: int = 2, output_vector_name: str = None):
    prefix, path = mlrun.datastore.parse_store_uri(df_artifact.artifact_url)
    is_vector = mlrun.utils.StorePrefix.FeatureVector == prefix
    df = df_artifact.as_df()
    y = df.pop(label_column)
    scores, votes = pd.DataFrame(index=df.columns), pd.Series(0, index=df.columns)
    for name in ("f_classif", "f_regression"):
        test = SelectKBest(score_func=create_class(f"sklearn.feature_selection.{name}"), k=k).fit(df, y)
        scores[name] = test.scores_.round(4)
        plot(context, name, scores[name])
        votes += test.get_support().astype(int)
    model = create_class("sklearn.linear_model.LogisticRegression")(solver="liblinear")
    votes += SelectFromModel(model).fit(df, y).get_support().astype(int)
    context.log_dataset(key="feature_scores", df=scores, format="parquet")
    chosen = votes[votes >= 2].index.tolist()
    if is_vector and output_vector_name:
        fs.FeatureVector(output_vector_name, chosen).get_offline_features(target=ParquetTarget())
    context.log_results({"stored": prefix is not None, "named": bool(path), "chosen": chosen})
