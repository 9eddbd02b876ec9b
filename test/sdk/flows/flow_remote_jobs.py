"""Jobs that this server executes (29.6), and the run object afterwards (29.10)."""

import threading
import time

import mlrun
from flow import Flow

CODE = """
import os
import time


def train(context, rate: float = 0.1, rounds=2):
    print("training with", rate, flush=True)
    context.log_result("accuracy", rate * rounds)
    context.set_label("stage", "train")
    context.log_artifact("note", body="größe: all went well", local_path="note.txt")
    context.logger.info("done", rate=rate)
    return {"rate": rate}


def fail(context):
    context.log_result("before", 1)
    raise ValueError("the data are wrong")


def slow(context, seconds=600):
    print("it has begun", flush=True)
    time.sleep(seconds)


def versions(context):
    import six

    context.log_result("six", six.__version__)
    context.log_result("colour", os.environ.get("COLOUR"))


def read(context, data):
    context.log_result("text", data.get().decode())
"""


class RemoteJobs(Flow):
    def setUp(self):
        self.fn = self.job("job-fn", CODE)

    def wait_for_log(self, run, text):
        """Return when the run's log on the server has the text."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            _, log = self.db.get_log(run.uid(), self.project_name)
            if text in log:
                return
            time.sleep(0.1)
        self.fail(f"the log does not show {text!r}")

    def test_run_to_the_end(self):
        run = self.fn.run(handler="train", params={"rate": 0.5})
        self.assertEqual(run.state(), "completed")
        self.assertEqual(run.status.results["accuracy"], 1.0)
        self.assertEqual(run.status.results["return"], {"rate": 0.5})
        self.assertEqual(run.output("accuracy"), 1.0)
        self.assertEqual(run.metadata.labels["stage"], "train")
        self.assertEqual(run.artifact("note").get().decode(), "größe: all went well")
        self.assertIn("note", run.outputs)
        _, log = self.db.get_log(run.uid(), self.project_name)
        self.assertIn(b"training with 0.5", log)
        self.assertTrue(run.spec.function.startswith(f"{self.project_name}/job-fn@"))

    def test_that_fails(self):
        with self.assertRaises(mlrun.runtimes.utils.RunError) as caught:
            self.fn.run(handler="fail", name="fails")
        self.assertIn("the data are wrong", str(caught.exception))
        (stored,) = self.db.list_runs(name="fails", project=self.project_name)
        self.assertEqual(stored["status"]["state"], "error")
        self.assertIn("the data are wrong", stored["status"]["error"])
        self.assertEqual(stored["status"]["results"], {"before": 1})

    def test_a_handler_that_is_not_there(self):
        with self.assertRaises(mlrun.runtimes.utils.RunError) as caught:
            self.fn.run(handler="trian")
        self.assertIn("trian", str(caught.exception))

    def test_not_watched_then_waited_for(self):
        run = self.fn.run(handler="slow", params={"seconds": 2}, watch=False)
        self.assertIn(run.state(), ("created", "pending", "running"))
        run.wait_for_completion(sleep=0.5, timeout=60)
        self.assertEqual(run.state(), "completed")
        state, offset = run.logs(watch=False)
        self.assertEqual(state, "completed")
        self.assertGreater(offset, 0)

    def test_logs_stream_while_it_runs(self):
        run = self.fn.run(handler="slow", watch=False)
        self.wait_for_log(run, b"it has begun")
        self.assertEqual(run.state(), "running")
        self.db.abort_run(run.uid(), self.project_name)

    def test_aborted(self):
        run = self.fn.run(handler="slow", watch=False)
        self.wait_for_log(run, b"it has begun")
        run.abort()
        self.assertEqual(run.state(), "aborted")
        with self.assertRaises(mlrun.errors.MLRunRuntimeError):
            run.wait_for_completion(sleep=0.5, timeout=30)
        self.assertEqual(self.db.read_run(run.uid(), self.project_name)["status"]["state"], "aborted")

    def test_aborted_while_it_is_watched(self):
        failures = []

        def abort():
            try:
                for _ in range(300):
                    runs = self.db.list_runs(name="watched", project=self.project_name)
                    if runs and runs[0]["status"]["state"] == "running":
                        self.db.abort_run(runs[0]["metadata"]["uid"], self.project_name)
                        return
                    time.sleep(0.1)
                failures.append("the run did not start")
            except Exception as err:
                failures.append(str(err))

        thread = threading.Thread(target=abort)
        thread.start()
        with self.assertRaises(mlrun.runtimes.utils.RunError):
            self.fn.run(handler="slow", name="watched")
        thread.join()
        self.assertEqual(failures, [])

    def test_abort_of_a_finished_run_fails_and_changes_nothing(self):
        run = self.fn.run(handler="train")
        task = self.db.abort_run(run.uid(), self.project_name)
        self.assertEqual(task.status.state, "failed")
        self.assertEqual(self.db.read_run(run.uid(), self.project_name)["status"]["state"], "completed")

    def test_with_requirements_and_environment(self):
        fn = self.job("with-requirements", CODE, requirements=["six==1.16.0"])
        fn.set_env("COLOUR", "blue")
        run = fn.run(handler="versions", auto_build=True)
        self.assertEqual(run.status.results, {"six": "1.16.0", "colour": "blue"})

    def test_with_an_input(self):
        path = self.write("input.txt", "the text of an input")
        run = self.fn.run(handler="read", inputs={"data": path})
        self.assertEqual(run.output("text"), "the text of an input")

    def test_run_function_of_the_project(self):
        self.fn.save()
        run = self.project.run_function(
            "job-fn", handler="train", params={"rate": 0.25}, labels={"who": "me"}, local=False
        )
        self.assertEqual(run.state(), "completed")
        self.assertEqual(run.status.results["accuracy"], 0.5)
        stored = self.db.read_run(run.uid(), self.project_name)
        self.assertEqual(stored["metadata"]["labels"]["who"], "me")
        self.assertEqual(stored["metadata"]["labels"]["kind"], "job")

    def test_a_function_read_back_by_hash_runs(self):
        uri = self.fn.save(versioned=True)
        run = mlrun.import_function(uri).run(handler="train", params={"rate": 1})
        self.assertEqual(run.status.results["accuracy"], 2)

    def test_show_and_refresh(self):
        run = self.fn.run(handler="train")
        run.show()
        run.refresh()
        self.assertEqual(run.status.results["accuracy"], 0.2)

    def test_a_local_kind_is_not_submitted(self):
        body = {
            "task": {"metadata": {"name": "x", "project": self.project_name}, "spec": {"handler": "train"}},
            "function": {"kind": "local", "metadata": {"name": "x", "project": self.project_name}, "spec": {}},
        }
        with self.assertRaises(mlrun.errors.MLRunBadRequestError):
            self.db.api_call("POST", "submit_job", "submit a local kind", json=body)
