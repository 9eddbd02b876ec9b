"""Iterative tasks (29.7): executed by the server, and by the SDK with the server
as its database. What the two record of the same task is compared."""

import json
import pathlib
import random
import types

import mlrun
from flow import Flow
from mlrun.model import RunObject
from mlrun.runtimes.generators import get_generator, selector

CODE = """
def score(context, a=1, b=2, fail=None):
    print("a", a, "b", b)
    if a == fail:
        raise ValueError("a is " + str(a))
    context.log_result("score", 10 * number(a) + number(b) + 1)
    context.log_result("seen", {"a": a, "b": b})
    context.log_artifact("note", body="a=" + str(a), local_path="note.txt")


def any_values(context, **values):  # 1.7's selector takes nothing below 0
    context.log_result("score", 10_000 + sum(number(v) * (i + 1) for i, (_, v) in enumerate(sorted(values.items()))))


def number(value):
    if isinstance(value, (bool, int, float)) and value == value:
        return value
    return len(str(value))


def own(context, rounds=3):
    for i in range(rounds):
        with context.get_child_context(depth=i + 1) as child:
            child.log_result("score", 10 - abs(i - 1))
            child.log_artifact("model", body=b"m%d" % i, local_path="model.bin")
            if i == 1:
                child.mark_as_best()
        context.commit("after %d" % i)


def own_with_parent_params(context, rate=0.5):
    child = context.get_child_context(with_parent_params=True, depth=7)
    child.log_result("seen", dict(child.parameters))
    child.commit(completed=True)
    context.update_child_iterations(best_run=1)
"""


def order(document):
    """The table of a run as a list of rows, each a dict; missing values are left out."""
    header, *rows = document["status"]["iterations"]
    return [{k: v for k, v in zip(header, row) if v is not None and v == v} for row in rows]


class Iterations(Flow):
    def setUp(self):
        self.fn = self.job("iterations", CODE)

    def stored(self, run):
        return self.db.read_run(run.uid(), self.project_name)

    def children(self, run):
        listed = self.db.list_runs(uid=run.uid(), project=self.project_name, iter=True)
        return {r["metadata"]["iteration"]: r for r in listed if r["metadata"].get("iteration")}

    def both(self, values, **options):
        """Execute a task by the server and by the SDK; return the two runs."""
        runs = []
        handler, params = options.pop("handler", "score"), options.pop("params", None)
        fails = options.pop("fails", False)
        for local in (False, True):
            task = mlrun.new_task(handler=handler, params=params)
            if values is None:
                task.with_param_file(**options)
            else:
                task.with_hyper_params(dict(values), **options)
            name = ("local" if local else "remote") + f"-{random.randrange(10**9)}"
            more = {"artifact_path": str(self.folder)} if local else {}
            try:
                runs.append(self.fn.run(task, name=name, local=local, **more))
                self.assertFalse(fails, "the run should have failed")
            except mlrun.runtimes.utils.RunError:
                self.assertTrue(fails, "the run failed")
                (failed,) = self.db.list_runs(name=name, project=self.project_name)
                runs.append(RunObject.from_dict(failed))
        return runs

    def assertEqualRuns(self, remote, local):
        ours, theirs = self.stored(remote), self.stored(local)
        self.assertEqual(order(ours), order(theirs))
        self.assertEqual(ours["status"]["state"], theirs["status"]["state"])
        self.assertEqual(ours["status"].get("results") or {}, theirs["status"].get("results") or {})
        mine, them = self.children(remote), self.children(local)
        self.assertEqual(sorted(mine), sorted(them))
        for i, child in mine.items():
            self.assertEqual(child["spec"]["parameters"], them[i]["spec"]["parameters"])
            self.assertEqual(child["status"]["state"], them[i]["status"]["state"])
            self.assertEqual(child["status"].get("results") or {}, them[i]["status"].get("results") or {})
        keys = [sorted(a["metadata"]["key"] for a in run["status"].get("artifacts", [])) for run in (ours, theirs)]
        self.assertEqual(*keys)
        self.assertEqual(len(self.db.list_runs(uid=remote.uid(), project=self.project_name)), 1)

    def test_grid(self):
        remote, local = self.both({"b": [2, 1, 3], "a": [10, 20]}, selector="max.score")
        self.assertEqualRuns(remote, local)
        self.assertEqual([row["param.b"] for row in order(self.stored(remote))], [2, 1, 3, 2, 1, 3])
        self.assertEqual(remote.status.results["best_iteration"], 6)
        self.assertEqual(remote.output("best_iteration"), 6)
        self.assertEqual(remote.artifact("note").get().decode(), "a=20")
        table = remote.artifact("iteration_results").as_df()
        self.assertEqual(list(table["iter"]), [1, 2, 3, 4, 5, 6])
        self.assertIn(b"<html", remote.artifact("parallel_coordinates").get().lower())
        self.assertEqual(remote.to_dict()["status"]["iterations"][0][:2], ["state", "iter"])

    def test_list(self):
        self.assertEqualRuns(*self.both({"a": [1, 5, 3], "b": [2, 2, 9]}, strategy="list", selector="min.score"))

    def test_over_parameters(self):
        self.assertEqualRuns(*self.both({"a": [3, 4]}, params={"b": 7, "fail": 100}, selector="score"))

    def test_files(self):
        path = pathlib.Path(self.write("points.csv", "a,b\n1,2\n3,4\n5,0\n"))
        remote, local = self.both(None, param_file=str(path), selector="max.score")
        self.assertEqualRuns(remote, local)
        path = pathlib.Path(self.write("points.json", json.dumps({"b": [1, 2], "a": [4, 3]})))
        remote, local = self.both(None, param_file=str(path), selector="max.score")
        self.assertEqualRuns(remote, local)

    def test_a_failure(self):
        remote, local = self.both({"a": [1, 2, 3]}, params={"fail": 2}, selector="max.score", fails=True)
        self.assertEqualRuns(remote, local)
        stored = self.stored(remote)
        self.assertIn("1 of 3 tasks failed", stored["status"]["error"])
        self.assertEqual(self.children(remote)[2]["status"]["state"], "error")
        self.assertIn("a is 2", self.children(remote)[2]["status"]["error"])

    def test_too_many_failures(self):
        remote, local = self.both({"a": [9, 9, 9, 1, 2]}, params={"fail": 9}, max_errors=1, fails=True)
        self.assertEqualRuns(remote, local)
        self.assertEqual(sorted(self.children(remote)), [1, 2])

    def test_stop_condition(self):
        remote, local = self.both({"a": [1, 2, 3, 4]}, stop_condition="score > 20")
        self.assertEqualRuns(remote, local)
        self.assertEqual(len(order(self.stored(remote))), 2)

    def test_a_stop_condition_over_nothing(self):
        """The server ends the task and says which results there are."""
        options = mlrun.model.HyperParamOptions(selector="max.score", stop_condition="scoer > 20")
        with self.assertRaises(mlrun.runtimes.utils.RunError) as caught:
            self.fn.run(handler="score", hyperparams={"a": [1, 2, 3, 4]}, hyper_param_options=options)
        self.assertIn('no iteration logs "scoer"; results are', str(caught.exception))

    def test_random(self):
        task = mlrun.new_task(handler="score")
        task.with_hyper_params({"a": [1, 2, 3], "b": [4, 5]}, selector="max.score", strategy="random", max_iterations=7)
        for local in (False, True):
            run = self.fn.run(task, local=local, artifact_path=str(self.folder))
            rows = order(self.stored(run))
            self.assertEqual(len(rows), 7)
            for row in rows:
                self.assertIn(row["param.a"], [1, 2, 3])
                self.assertIn(row["param.b"], [4, 5])
            best = max(rows, key=lambda row: row["output.score"])
            self.assertEqual(run.status.results["best_iteration"], best["iter"])

    def test_in_parallel(self):
        run = self.fn.run(
            handler="score",
            hyperparams={"a": list(range(20))},
            hyper_param_options=mlrun.model.HyperParamOptions(selector="max.score", parallel_runs=2),
        )
        self.assertEqual(run.status.results["best_iteration"], 20)
        self.assertEqual([row["iter"] for row in order(self.stored(run))], list(range(1, 21)))

    def test_children_of_the_code(self):
        for local in (False, True):
            task = mlrun.new_task(handler="own")
            if not local:  # the word says that nothing is generated for the task
                task.with_hyper_params({}, strategy="custom")
            run = self.fn.run(task, local=local, artifact_path=str(self.folder))
            self.assertEqual(run.state(), "completed")
            stored, children = self.stored(run), self.children(run)
            self.assertEqual(sorted(children), [1, 2, 3])
            self.assertEqual(children[2]["spec"]["parameters"], {"depth": 2})
            self.assertEqual(children[2]["status"]["results"], {"score": 10})
            self.assertEqual({c["status"]["state"] for c in children.values()}, {"completed"})
            self.assertEqual(stored["status"]["results"]["best_iteration"], 2)
            self.assertEqual(stored["status"]["results"]["score"], 10)
            self.assertEqual([row["param.depth"] for row in order(stored)], [1, 2, 3])
            self.assertIn("model", [a["metadata"]["key"] for a in stored["status"]["artifacts"]])

    def test_a_child_with_the_parameters_of_its_parent(self):
        seen = []
        for local in (False, True):
            run = self.fn.run(
                handler="own_with_parent_params", params={"rate": 0.5}, local=local, artifact_path=str(self.folder)
            )
            (child,) = self.children(run).values()
            self.assertEqual(self.stored(run)["status"]["results"]["best_iteration"], 1)
            seen.append(child["status"]["results"]["seen"])
        self.assertEqual(seen[0], {"rate": 0.5, "depth": 7})
        self.assertEqual(*seen)

    def test_refusals(self):
        """What cannot be is refused before there is a run."""
        for values, options, says in (
            ({"a": []}, {}, "no values"),
            ({"a": [1, 2], "b": [1]}, {"strategy": "list"}, "list takes the n-th value"),
            ({"a": [1]}, {"selector": "best.score"}, "selector"),
            ({"a": [1]}, {"stop_condition": "score >"}, "stop"),
            ({"a": 1}, {}, "must be a list"),
            ({"a": [2**70]}, {}, "exceeds int64"),
            ({}, {"param_file": str(self.folder / "none.csv")}, "none.csv cannot be read"),
            (
                {},
                {"param_file": self.write("ragged.csv", "a,b\n1,2\n3\n")},
                "ragged.csv, line 3: 1 cells where the first line has 2",
            ),
            (
                {},
                {"param_file": self.write("values.csv", "a\n1\n"), "strategy": "grid"},
                "a CSV file has one row for each iteration",
            ),
        ):
            task = mlrun.new_task(name="refused", handler="score")
            task.spec.hyperparams = values
            for name, value in options.items():
                setattr(task.spec.hyper_param_options, name, value)
            with self.assertRaises(Exception) as caught:
                self.fn.run(task)
            self.assertIn(says, str(caught.exception))
            self.assertNotIn("Traceback", str(caught.exception))
        self.assertEqual(list(self.db.list_runs(name="refused", project=self.project_name)), [])

    def test_many_shapes(self):
        """Parameters, best iteration and order of many tasks are those of the SDK's generators."""
        draw = random.Random(20)
        started = []
        for number in range(40):
            values, options = shape(draw)
            task = mlrun.new_task(handler="any_values", name=f"shape-{number}")
            task.with_hyper_params(values, selector=draw.choice(["max.score", "min.score", "score"]), **options)
            if draw.random() < 0.3:
                task.spec.hyper_param_options.parallel_runs = 2
            started.append((task, self.fn.run(task, watch=False)))
        for task, run in started:
            run.wait_for_completion(show_logs=False, timeout=120)
            what = f"{task.spec.hyperparams} {task.spec.hyper_param_options.to_dict()}"
            children = self.children(run)
            ours = [children[i]["spec"]["parameters"] for i in sorted(children)]
            spec = RunObject.from_dict(json.loads(json.dumps(task.to_dict()))).spec
            execution = types.SimpleNamespace(get_dataitem=mlrun.get_dataitem, uid="u")
            theirs = [dict(t.spec.parameters) for t in get_generator(spec, execution).generate(RunObject())]
            if task.spec.hyper_param_options.strategy == "random":
                self.assertEqual(len(ours), len(theirs), what)
                for point in ours:
                    self.assertEqual(list(point), sorted(task.spec.hyperparams), what)
                    for name, value in point.items():
                        self.assertIn(value, task.spec.hyperparams[name], what)
            else:
                self.assertEqual(ours, [plain(t) for t in theirs], what)
            ended = [children[i] for i in sorted(children)]
            _, best = selector(ended, task.spec.hyper_param_options.selector)
            self.assertEqual(self.stored(run)["status"]["results"]["best_iteration"], best, what)


def plain(parameters):
    """What the list strategy took from a data frame, without the frame's types; what is missing there is None here."""
    values = {k: v.item() if hasattr(v, "item") else v for k, v in parameters.items()}
    return {k: None if v != v else v for k, v in values.items()}


def shape(draw):
    """A task at random: its values and options."""
    pools = [
        lambda: draw.randrange(-50, 50),
        lambda: draw.choice([0.5, 1.0, 1e-3, 1e6, 0.1]) * draw.randrange(1, 9),
        lambda: draw.choice(["relu", "tanh", "", "größe", "a,b", "1", "true"]),
        lambda: draw.choice([True, False]),
        lambda: [draw.randrange(5) for _ in range(draw.randrange(3))],
        lambda: {"k": draw.randrange(5), "l": [1]},
        lambda: draw.choice([None, 1, "x", 2.5]),
    ]
    names = draw.sample(["z", "a", "m", "learning_rate", "Depth", "p1", "x10", "x9"], draw.randrange(1, 4))
    strategy = draw.choice(["", "grid", "list", "random"])
    length = draw.randrange(1, 6)
    values = {}
    for name in names:
        pool = draw.choice(pools)
        values[name] = [pool() for _ in range(length if strategy == "list" else draw.randrange(1, 4))]
    options = {"strategy": strategy} if strategy else {}
    if strategy == "random" and draw.random() < 0.5:
        options["max_iterations"] = draw.randrange(1, 13)
    return values, options
