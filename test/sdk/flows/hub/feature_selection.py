"""Select the features with the highest scores of several tests."""

import json

import mlrun
import pandas as pd
from mlrun.utils import logger
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif

TESTS = {"anova": f_classif, "mutual": lambda x, y: mutual_info_classif(x, y, random_state=0)}


def select(context, df_artifact: mlrun.DataItem, k: int = 2, min_votes: int = 1, label_column="label"):
    df = mlrun.get_dataitem(df_artifact.url).as_df()
    y = df.pop(label_column)
    votes = pd.Series(0, index=df.columns)
    for name, test in TESTS.items():
        selector = SelectKBest(test, k=k).fit(df, y)
        votes += selector.get_support().astype(int)
        context.log_artifact(
            f"scores-{name}", body=json.dumps(dict(zip(df.columns, selector.scores_.round(4).tolist()))), format="json"
        )
    chosen = sorted(votes[votes >= min_votes].index)
    logger.info(f"chosen {chosen}")
    context.log_result("features", chosen)
    context.log_dataset("selected", df=df[chosen].assign(**{label_column: y}), format="parquet", index=False)
