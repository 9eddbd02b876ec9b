"""Answer requests with the model that train.py has logged; MODEL is its store:// address."""

import os
import pickle

import mlrun


def init_context(context):
    path, _, _ = mlrun.artifacts.get_model(os.environ["MODEL"], suffix=".pkl")
    with open(path, "rb") as file:
        context.user_data.model = pickle.load(file)


def score(context, event):
    """The probability of each patient's tumour to be benign.

    The body is {"rows": [[…], …]}: for each patient the 30 numbers of the data set.
    """
    probabilities = context.user_data.model.predict_proba(event.body["rows"])
    return {"benign": [round(float(benign), 3) for _, benign in probabilities]}
