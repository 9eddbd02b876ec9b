"""Train a scikit-learn classifier and log it as a model with metrics and schema."""

import importlib
import json
import pickle

import mlrun
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split


def train(
    context: mlrun.MLClientCtx,
    dataset: mlrun.DataItem,
    label_column: str = "label",
    model_class: str = "sklearn.linear_model.LogisticRegression",
    model_params: dict = None,
    test_size: float = 0.25,
    random_state: int = 7,
):
    df = dataset.as_df()
    x, y = df.drop(columns=[label_column]), df[label_column]
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=test_size, random_state=random_state)
    module, _, name = model_class.rpartition(".")
    model = getattr(importlib.import_module(module), name)(**(model_params or {}))
    model.fit(x_train, y_train)
    predicted = model.predict(x_test)
    metrics = {"accuracy": round(accuracy_score(y_test, predicted), 6), "f1": round(f1_score(y_test, predicted), 6)}
    context.log_results(metrics)
    context.set_label("class", name)
    test_set = x_test.assign(**{label_column: y_test}).reset_index(drop=True)
    context.log_dataset("test_set", df=test_set, format="csv", index=False)
    context.log_model(
        "model",
        body=pickle.dumps(model, protocol=4),
        model_file="model.pkl",
        framework="sklearn",
        algorithm=name,
        metrics=metrics,
        parameters={"test_size": test_size},
        training_set=x_train.assign(**{label_column: y_train}),
        label_column=label_column,
        labels={"stage": "dev"},
        extra_data={"params.json": json.dumps(model_params or {}).encode()},
    )
