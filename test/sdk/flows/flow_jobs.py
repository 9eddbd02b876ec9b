"""Functions of kind nuclio:mlrun: runs that the SDK sends to a deployed function, many at once."""

import itertools

import mlrun
from flow import Flow

CODE = """
import os
import threading
import time

calls = 0


def score(context, a: int = 1, b=2, fail=None, pause=0):
    global calls
    calls += 1
    context.logger.info("scoring", a=a)
    began = time.time()
    if a == fail:
        raise ValueError("a is " + str(a))
    time.sleep(pause)
    context.log_results({"score": 10 * a + b, "calls": calls, "pid": os.getpid()})
    context.log_result("span", [began, time.time()])
    context.set_label("kept", "yes")


def returns(context, x):
    return x * 2


def meets(context, folder, count, a):
    # Ends only when so many are here at once.
    open(os.path.join(folder, str(a)), "w").close()
    for _ in range(3000):
        if len(os.listdir(folder)) >= count:
            return "met"
        time.sleep(0.01)
    raise RuntimeError("alone")


def keeps(context, a: int = 1):
    context.log_result("score", a)
    context.log_artifact("rows", body="row %d" % a, local_path="rows.txt")


def dies(context, a):
    if a == 2:
        os._exit(3)
    context.log_result("score", a)
"""


def table(run):
    header, *rows = run.to_dict()["status"]["iterations"]
    return sorted((dict(zip(header, row)) for row in rows), key=lambda row: row["iter"])


class Jobs(Flow):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = cls.folder / "jobs.py"
        path.write_text(CODE)
        cls.fn = mlrun.code_to_function(
            "jobs", project=cls.project_name, filename=str(path), kind="nuclio:mlrun", image="mlrun/mlrun"
        )
        cls.fn.with_http(workers=4)
        try:
            cls.fn.deploy()
        except Exception:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        Flow.cli(cls, "delete", "deployment", f"{cls.project_name}/jobs", check=False)
        super().tearDownClass()

    def stored(self, run):
        return self.db.read_run(run.uid(), self.project_name)

    def children(self, run):
        listed = self.db.list_runs(uid=run.uid(), project=self.project_name, iter=True)
        return {r["metadata"]["iteration"]: r for r in listed if r["metadata"].get("iteration")}

    def test_one_run(self):
        run = self.fn.run(handler="score", params={"a": 4})
        self.assertEqual(run.state(), "completed")
        self.assertEqual(run.status.results["score"], 42)
        stored = self.stored(run)
        self.assertEqual(stored["status"]["state"], "completed")
        self.assertEqual(stored["status"]["results"]["score"], 42)
        self.assertEqual(stored["metadata"]["labels"]["kept"], "yes")
        self.assertIn("scoring", self.db.get_log(run.uid(), project=self.project_name)[1].decode())
        self.assertEqual(self.fn.run(handler="returns", params={"x": 4}).output("return"), 8)

    def test_artifacts(self):
        run = self.fn.run(handler="keeps", name="keeping", params={"a": 7})
        (found,) = self.db.list_artifacts("keeping_rows", project=self.project_name, tree=run.uid())
        self.assertEqual(found["spec"]["producer"]["uri"], f"{self.project_name}/{run.uid()}")
        self.assertEqual(mlrun.get_dataitem(run.outputs["rows"]).get(encoding="utf-8"), "row 7")

    def test_what_iterations_keep(self):
        run = self.fn.run(
            handler="keeps",
            name="kept",
            hyperparams={"a": [1, 2, 3]},
            hyper_param_options={"parallel_runs": 3, "selector": "max.score"},
        )
        children = self.children(run)
        self.assertEqual({i: c["status"]["results"] for i, c in children.items()}, {i: {"score": i} for i in (1, 2, 3)})
        found = self.db.list_artifacts("kept_rows", project=self.project_name, tree=run.uid())
        self.assertEqual({1, 2, 3} - {a["metadata"].get("iter") for a in found}, set())

    def test_a_failure(self):
        with self.assertRaises(mlrun.runtimes.utils.RunError) as caught:
            self.fn.run(handler="score", name="failing", params={"a": 4, "fail": 4})
        self.assertIn("a is 4", str(caught.exception))
        (failed,) = self.db.list_runs(name="failing", project=self.project_name)
        self.assertEqual(failed["status"]["state"], "error")

    def test_no_such_handler(self):
        with self.assertRaises(mlrun.runtimes.utils.RunError):
            self.fn.run(handler="none", name="none")

    def test_iterations_at_once(self):
        folder = self.folder / "meeting"
        folder.mkdir()
        run = self.fn.run(
            handler="meets",
            params={"folder": str(folder), "count": 4},
            hyperparams={"a": [1, 2, 3, 4]},
            hyper_param_options={"parallel_runs": 4},
        )
        self.assertEqual([row["output.return"] for row in table(run)], ["met"] * 4)

    def test_many(self):
        """A hundred iterations, more at once than there are workers."""
        run = self.fn.run(
            handler="score",
            hyperparams={"a": list(range(25)), "b": [1, 2, 3, 4]},
            hyper_param_options={"parallel_runs": 16, "selector": "max.score"},
        )
        self.assertEqual(run.state(), "completed")
        self.assertEqual(run.status.results["score"], 244)
        rows = table(run)
        self.assertEqual([row["iter"] for row in rows], list(range(1, 101)))
        self.assertEqual(
            [(row["param.a"], row["param.b"], row["output.score"]) for row in rows],
            [(a, b, 10 * a + b) for b, a in itertools.product([1, 2, 3, 4], range(25))],
        )
        children = self.children(run)
        self.assertEqual(sorted(children), list(range(1, 101)))
        self.assertEqual({c["status"]["state"] for c in children.values()}, {"completed"})
        # The workers stay: what a module remembers is that of many runs.
        self.assertGreater(max(row["output.calls"] for row in rows), 5)
        best = self.stored(run)["status"]["results"]["best_iteration"]
        self.assertEqual(rows[best - 1]["param.a"], 24)

    def test_failures_among_iterations(self):
        with self.assertRaises(mlrun.runtimes.utils.RunError):
            self.fn.run(
                handler="score",
                name="some",
                params={"fail": 2},
                hyperparams={"a": [1, 2, 3]},
                hyper_param_options={"parallel_runs": 3, "selector": "max.score"},
            )
        (failed,) = self.db.list_runs(name="some", project=self.project_name)
        self.assertIn("1 of 3 tasks failed", failed["status"]["error"])
        self.assertEqual(failed["status"]["results"]["score"], 32)
        states = {i: c["status"]["state"] for i, c in self.children(mlrun.RunObject.from_dict(failed)).items()}
        self.assertEqual(states, {1: "completed", 2: "error", 3: "completed"})

    def test_a_worker_that_dies(self):
        """One iteration takes its worker along: the others are answered, and the function goes on."""
        with self.assertRaises(mlrun.runtimes.utils.RunError):
            self.fn.run(
                handler="dies",
                name="dying",
                hyperparams={"a": [1, 2, 3, 4, 5, 6]},
                hyper_param_options={"parallel_runs": 3, "selector": "max.score"},
            )
        (failed,) = self.db.list_runs(name="dying", project=self.project_name)
        self.assertIn("1 of 6 tasks failed", failed["status"]["error"])
        states = {i: c["status"]["state"] for i, c in self.children(mlrun.RunObject.from_dict(failed)).items()}
        self.assertEqual([states[i] for i in range(1, 7)], ["completed", "error"] + ["completed"] * 4)

    def test_stop_condition(self):
        run = self.fn.run(
            handler="score",
            hyperparams={"a": list(range(1, 9))},
            hyper_param_options={"parallel_runs": 1, "stop_condition": "score > 30", "selector": "max.score"},
        )
        self.assertLess(len(table(run)), 8)
        self.assertGreater(run.status.results["score"], 30)

    def test_it_deploys_by_itself(self):
        """run() of a function that is not deployed deploys it first."""
        fn = mlrun.code_to_function(
            "undeployed",
            project=self.project_name,
            filename=self.write("undeployed.py", CODE),
            kind="nuclio:mlrun",
            image="mlrun/mlrun",
        )
        self.addCleanup(self.cli, "delete", "deployment", f"{self.project_name}/undeployed", check=False)
        run = fn.run(handler="returns", params={"x": 3})
        self.assertEqual(run.output("return"), 6)
