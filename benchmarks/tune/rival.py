"""Minimises what main.go asks for with Optuna's TPE sampler at its defaults:
reads {"space", "budget", "seed", "parallel"} lines, writes points, reads values."""

import json
import sys
import warnings

import optuna

warnings.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def suggest(trial, name, domain):
    if isinstance(domain, list):
        return trial.suggest_categorical(name, domain)
    if isinstance(domain["low"], int):
        return trial.suggest_int(name, domain["low"], domain["high"], log=domain.get("log", False))
    return trial.suggest_float(name, domain["low"], domain["high"], log=domain.get("log", False))


for line in sys.stdin:
    task = json.loads(line)
    several = task["parallel"] > 1
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=task["seed"], constant_liar=several))
    out = []
    for _ in range(task["budget"]):
        trial = study.ask()
        out.append(trial)
        point = {name: suggest(trial, name, domain) for name, domain in task["space"].items()}
        print(json.dumps(point), flush=True)
        value = float(sys.stdin.readline())
        out[-1] = (trial, value)
        if len(out) == task["parallel"]:
            study.tell(*out.pop(0))
