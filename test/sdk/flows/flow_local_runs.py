"""Runs that the SDK executes itself and only records here (29.5, 29.7)."""

import mlrun
from flow import Flow

CODE = """
import mlrun


def train(context, rate: float = 0.1, rounds=2):
    print("training with", rate)
    context.log_result("accuracy", rate * rounds)
    context.set_label("stage", "train")
    context.log_artifact("note", body="all went well", local_path="note.txt")
    context.logger.info("done", rate=rate)


def fail(context):
    context.log_result("before", 1)
    raise ValueError("the data are wrong")


if __name__ == "__main__":
    context = mlrun.get_or_create_ctx("script")
    print("script of", context.name)
    context.log_result("script", context.get_param("rate", 0))
"""


class LocalRuns(Flow):
    def test_with_a_handler(self):
        fn = self.job("local-handler", CODE)
        run = fn.run(handler="train", params={"rate": 0.5}, local=True, artifact_path=str(self.folder))
        self.assertEqual(run.state(), "completed")
        stored = self.db.read_run(run.uid(), self.project_name)
        self.assertEqual(stored["status"]["state"], "completed")
        self.assertEqual(stored["status"]["results"], {"accuracy": 1.0})
        self.assertEqual(stored["spec"]["parameters"], {"rate": 0.5})
        self.assertEqual(stored["metadata"]["labels"]["stage"], "train")
        self.assertEqual(stored["metadata"]["labels"]["kind"], "local")
        self.assertIn("note", [a["metadata"]["key"] for a in stored["status"]["artifacts"]])
        state, log = self.db.get_log(run.uid(), self.project_name)
        self.assertEqual(state, "completed")
        self.assertIn(b"training with 0.5", log)
        self.assertEqual(run.artifact("note").get().decode(), "all went well")

    def test_of_a_file_without_a_handler(self):
        path = self.write("script.py", CODE)
        fn = mlrun.new_function("script", project=self.project_name, kind="local", command=path)
        run = fn.run(params={"rate": 7}, artifact_path=str(self.folder))
        stored = self.db.read_run(run.uid(), self.project_name)
        self.assertEqual(stored["status"]["state"], "completed")
        self.assertEqual(stored["status"]["results"]["script"], 7)

    def test_of_a_callable(self):
        def handler(context, x):
            context.log_result("x", x)
            return x + 1

        fn = mlrun.new_function("callable", project=self.project_name)
        run = fn.run(handler=handler, params={"x": 4}, artifact_path=str(self.folder))
        stored = self.db.read_run(run.uid(), self.project_name)
        self.assertEqual(stored["status"]["results"], {"x": 4, "return": 5})
        self.assertEqual(stored["metadata"]["labels"]["kind"], "handler")

    def test_that_fails(self):
        fn = self.job("local-fails", CODE)
        with self.assertRaises(Exception) as caught:
            fn.run(handler="fail", local=True, name="fails", artifact_path=str(self.folder))
        self.assertIn("the data are wrong", str(caught.exception))
        (stored,) = self.db.list_runs(name="fails", project=self.project_name)
        self.assertEqual(stored["status"]["state"], "error")
        self.assertIn("the data are wrong", stored["status"]["error"])
        self.assertEqual(stored["status"]["results"], {"before": 1})

    def test_a_context_without_a_launcher(self):
        with mlrun.get_or_create_ctx("bare", project=self.project_name, upload_artifacts=True) as context:
            context.log_result("loss", float("nan"))
            context.log_results({"a": 1, "b": [1, 2]})
            uid = context.uid
        stored = self.db.read_run(uid, self.project_name)
        self.assertEqual(stored["status"]["state"], "completed")
        self.assertEqual(stored["status"]["results"]["b"], [1, 2])
        self.assertIsNone(stored["status"]["results"]["loss"])

    def test_hyper_parameters(self):
        fn = self.job("local-hyper", CODE)
        task = mlrun.new_task(handler="train")
        task.with_hyper_params({"rate": [0.1, 0.3, 0.2]}, selector="max.accuracy")
        run = fn.run(task, local=True, artifact_path=str(self.folder))
        stored = self.db.read_run(run.uid(), self.project_name)
        self.assertEqual(stored["status"]["results"]["best_iteration"], 2)
        self.assertEqual(len(stored["status"]["iterations"]), 4)
        children = self.db.list_runs(uid=run.uid(), project=self.project_name, iter=True)
        self.assertEqual(sorted(r["metadata"].get("iteration", 0) for r in children), [0, 1, 2, 3])
        parents = self.db.list_runs(uid=run.uid(), project=self.project_name)
        self.assertEqual(len(parents), 1)
