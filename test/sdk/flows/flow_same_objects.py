"""What our command line and the SDK do, the other one sees, as the same objects."""

import base64
import datetime

import mlrun
from flow import Flow

CODE = """
def train(context, rate=0.1):
    print("training with", rate)
    context.log_result("rate", rate)
    context.log_artifact("note", body="a note", local_path="note.txt")
"""


class SameObjects(Flow):
    def test_a_run_of_the_command_line(self):
        path = self.write("cli_fn.py", CODE)
        run = self.cli_json("run", path, "--handler", "train", "--param", "rate=0.5")
        uid = run["metadata"]["uid"]
        seen = self.db.read_run(uid, self.project_name)
        self.assertEqual(seen["status"]["state"], "completed")
        for part in ("parameters", "handler", "function"):
            self.assertEqual(seen["spec"].get(part), run["spec"].get(part), part)
        self.assertEqual(seen["status"]["results"], run["status"]["results"])
        _, log = self.db.get_log(uid, self.project_name)
        self.assertIn(b"training with 0.5", log)
        uri = run["spec"]["function"]
        fn = mlrun.import_function("db://" + uri)
        self.assertIn("def train", self.code(fn))
        note = self.project.get_artifact("cli-fn-train_note", tree=uid)
        self.assertEqual(note.to_dataitem().get().decode(), "a note")
        again = fn.run(handler="train", params={"rate": 0.75}, local=True, artifact_path=str(self.folder))
        self.assertEqual(again.status.results, {"rate": 0.75})

    def code(self, fn):
        return base64.b64decode(fn.spec.build.functionSourceCode).decode()

    def test_a_run_of_the_sdk(self):
        fn = self.job("sdk-fn", CODE)
        run = fn.run(handler="train", params={"rate": 0.25})
        seen = self.cli_json("get", "run", run.uid())
        self.assertEqual(seen["status"]["results"], {"rate": 0.25})
        self.assertEqual(seen["spec"]["function"], run.spec.function)
        self.assertIn("training with 0.25", self.cli("logs", run.uid(), "--project", self.project_name))
        again = self.cli_json("run", f"{self.project_name}/sdk-fn", "--handler", "train", "--param", "rate=1")
        self.assertEqual(again["status"]["results"], {"rate": 1})

    def test_lists_are_the_same(self):
        fn = self.job("listed", CODE)
        fn.save(tag="v1")
        fn.run(handler="train", local=True, artifact_path=str(self.folder))
        self.cli("run", f"{self.project_name}/listed:v1", "--handler", "train", "--project", self.project_name)
        ours = sorted(run["metadata"]["uid"] for run in self.cli_json("get", "runs"))
        # Without any filter the SDK asks for the newest run of each name only.
        long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        theirs = sorted(run["metadata"]["uid"] for run in self.project.list_runs(start_time_from=long_ago))
        self.assertEqual(ours, theirs)
        ours = sorted({fn["metadata"]["name"] for fn in self.cli_json("get", "functions")})
        theirs = sorted({fn.metadata.name for fn in self.project.list_functions()})
        self.assertEqual(ours, theirs)
        ours = sorted(a["spec"]["target_path"] for a in self.cli_json("get", "artifacts"))
        theirs = sorted(a["spec"]["target_path"] for a in self.project.list_artifacts())
        self.assertEqual(ours, theirs)

    def test_a_function_imported_by_the_command_line(self):
        fn = self.job("moved", CODE, handler="train")
        path = str(self.folder / "moved.yaml")
        fn.export(path)
        self.cli("import", path, "--project", self.project_name)
        seen = mlrun.import_function(f"db://{self.project_name}/moved")
        self.assertEqual(seen.spec.default_handler, "train")

    def test_a_function_exported_by_the_command_line(self):
        self.job("taken", CODE, handler="train").save()
        path = self.folder / "taken.yaml"
        path.write_text(self.cli("export", f"{self.project_name}/taken"))
        fn = mlrun.import_function(str(path))
        self.assertEqual(fn.spec.default_handler, "train")
        run = fn.run(local=True, artifact_path=str(self.folder))
        self.assertEqual(run.state(), "completed")
