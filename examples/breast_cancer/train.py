"""Tell malignant from benign tumours: train a classifier on the Wisconsin data
set that ships inside scikit-learn, and log its metrics, a plot and the model."""

import pickle

import matplotlib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import RocCurveDisplay, accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

matplotlib.use("Agg")  # no display is needed to draw into a file
from matplotlib import pyplot


def train(context, trees: int = 100, depth: int = 5, test_size: float = 0.25, seed: int = 7):
    """Train a random forest and evaluate it on held-out patients.

    :param trees:     number of trees in the forest
    :param depth:     how deep a tree may grow
    :param test_size: share of the patients that the model never sees in training
    :param seed:      seed of the split and of the forest
    """
    data = load_breast_cancer()
    x_train, x_test, y_train, y_test = train_test_split(
        data.data, data.target, test_size=test_size, random_state=seed, stratify=data.target
    )
    context.logger.info("training", patients=len(x_train), features=x_train.shape[1], trees=trees)
    model = RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=seed)
    model.fit(x_train, y_train)

    scores = model.predict_proba(x_test)[:, 1]
    metrics = {"accuracy": accuracy_score(y_test, model.predict(x_test)), "auc": roc_auc_score(y_test, scores)}
    context.log_results({**metrics, "patients_tested": len(y_test)})
    context.set_label("framework", "sklearn")

    figure, axes = pyplot.subplots(figsize=(5, 5))
    RocCurveDisplay.from_predictions(y_test, scores, ax=axes)
    figure.savefig("roc.png", dpi=120)
    pyplot.close(figure)
    context.log_artifact("roc", local_path="roc.png")

    context.log_model("model", body=pickle.dumps(model), model_file="model.pkl", metrics=metrics, framework="sklearn")
