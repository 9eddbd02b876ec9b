"""Answers, for each JSON line on standard input, what the package makes of an
iterative task by itself: the parameters of its iterations, which iteration its
selector picks, and the table of them."""

import json
import sys
import types

import mlrun
from mlrun.model import RunObject
from mlrun.runtimes.generators import get_generator, selector
from mlrun.runtimes.utils import results_to_iter


def plain(value):
    return value.item() if hasattr(value, "item") else str(value)


def answer(case):
    run = RunObject.from_dict({"spec": case["spec"]})
    execution = types.SimpleNamespace(get_dataitem=lambda url, secrets=None: mlrun.get_dataitem(url), uid="u")
    tasks = list(get_generator(run.spec, execution).generate(run))
    out = {
        "parameters": [dict(task.spec.parameters) for task in tasks],
        "iters": [task.metadata.iteration for task in tasks],
    }
    ended = []
    for task, results in zip(tasks, case.get("results") or []):
        document = task.to_dict()
        document["status"] = {"state": "completed", "results": results}
        ended.append(document)
    if ended:
        out["best"] = selector(ended, case["spec"]["hyper_param_options"].get("selector"))[1]
        out["table"] = results_to_iter(ended, None, execution)[0]
    return out


reports = sys.stdout
sys.stdout = sys.stderr
for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said, default=plain), file=reports, flush=True)
