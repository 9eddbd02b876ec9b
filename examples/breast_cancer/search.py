"""Look for a good support vector machine on the Wisconsin data set: one call is
one set of parameters, evaluated by cross-validation.

    millrace run search.py --handler evaluate --requirements-file requirements.txt \\
        -x c=0.001..1000:log -x gamma=0.00001..1:log -x kernel=rbf,poly,sigmoid \\
        --strategy tpe --max-iterations 100 --parallel 2 --selector max.accuracy --seed 7

The data are loaded once in each process, not once for each set."""

import pickle

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

DATA = load_breast_cancer()


def evaluate(context, c: float = 1.0, gamma: float = 0.01, kernel: str = "rbf", folds: int = 5):
    """Evaluate a support vector machine by cross-validation.

    :param c:      how much an error in training costs
    :param gamma:  how near two patients have to be to count as alike
    :param kernel: rbf, poly or sigmoid
    :param folds:  parts of the data, each of which is held out once
    """
    model = make_pipeline(StandardScaler(), SVC(C=c, gamma=gamma, kernel=kernel))
    parts = StratifiedKFold(folds, shuffle=True, random_state=7)
    scores = cross_validate(model, DATA.data, DATA.target, cv=parts, scoring=["accuracy", "recall"])
    context.log_results(
        {
            "accuracy": scores["test_accuracy"].mean(),
            "recall": scores["test_recall"].mean(),
            "worst_fold": scores["test_accuracy"].min(),
        }
    )
    model.fit(DATA.data, DATA.target)
    context.log_artifact("model", body=pickle.dumps(model), local_path="model.pkl")
