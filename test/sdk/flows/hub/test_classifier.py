"""Load a logged model and test it on a held-out set."""

import pickle

import mlrun
import pandas as pd
from mlrun.artifacts import get_model, update_model
from sklearn.metrics import accuracy_score, confusion_matrix


def test(context, models_path: mlrun.DataItem, test_set: mlrun.DataItem, label_column="label"):
    model_file, model_artifact, extra = get_model(models_path, suffix=".pkl")
    with open(model_file, "rb") as file:
        model = pickle.load(file)
    df = test_set.as_df()
    y = df.pop(label_column)
    predicted = model.predict(df)
    context.log_result("accuracy", round(accuracy_score(y, predicted), 6))
    context.log_result("extra", sorted(extra))
    matrix = pd.DataFrame(confusion_matrix(y, predicted), columns=["negative", "positive"])
    context.log_dataset("confusion", df=matrix, format="csv", index=False, stats=False)
    context.log_result("trained", model_artifact.metrics["accuracy"])
    assert update_model
