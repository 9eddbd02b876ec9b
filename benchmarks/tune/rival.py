"""Optuna, as main.go and pruning.go ask for it. Of a line {"space", "budget", "seed",
"parallel"} it minimises with the TPE sampler at its defaults, writes points and reads values;
of a line {"pruner"} it judges iterations, {"step", "value", "last"} lines, until the next one."""

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


def minimise(task):
    several = task["parallel"] > 1
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=task["seed"], constant_liar=several))
    out = []
    for _ in range(task["budget"]):
        trial = study.ask()
        point = {name: suggest(trial, name, domain) for name, domain in task["space"].items()}
        print(json.dumps(point), flush=True)
        out.append((trial, float(sys.stdin.readline())))
        if len(out) == task["parallel"]:
            study.tell(*out.pop(0))


PRUNERS = {
    "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
}


def judge(report):
    global trial
    if report["step"] == 1:
        trial = study.ask()
    trial.report(report["value"], report["step"])
    pruned = trial.should_prune()
    if pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    elif report["last"]:
        study.tell(trial, report["value"])
    print(json.dumps(not pruned), flush=True)


study = trial = None
for line in sys.stdin:
    message = json.loads(line)
    if "space" in message:
        minimise(message)
    elif "pruner" in message:
        study = optuna.create_study(pruner=PRUNERS[message["pruner"]]())
    else:
        judge(message)
