"""Predict over a table with a logged model; results by log hints."""

import pickle

import mlrun
import pandas as pd


def infer(
    context: mlrun.MLClientCtx,
    dataset: pd.DataFrame,
    model_path: mlrun.DataItem,
    label_column: str = None,
    round_to: int = 4,
):
    model_file, _, _ = mlrun.artifacts.get_model(model_path, suffix=".pkl")
    with open(model_file, "rb") as file:
        model = pickle.load(file)
    features = dataset.drop(columns=[label_column]) if label_column else dataset
    result = features.copy()
    result["prediction"] = model.predict(features)
    result["score"] = model.predict_proba(features)[:, 1].round(round_to)
    share = round(float(result["prediction"].mean()), 6)
    return result, share, result["score"].head(3).tolist()
