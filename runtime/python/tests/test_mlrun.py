"""The bridge to the real mlrun package, where the interpreter has it (any version from 1.7)."""

from __future__ import annotations

import importlib.util
import json
import unittest

from tests.host import WorkerCase


@unittest.skipUnless(importlib.util.find_spec("mlrun"), "this interpreter has no mlrun package")
class MLRunTest(WorkerCase):
    def document(self, **spec):
        metadata = {"name": "train", "uid": "0123456789abcdef" * 2, "project": "demo", "labels": {"owner": "ann"}}
        return {
            "metadata": metadata,
            "spec": dict({"parameters": {"x": 2}, "output_path": self.folder + "/out"}, **spec),
        }

    def run_document(self, code, run, **load):
        env = {
            "MLRUN_EXEC_CONFIG": json.dumps(run),
            "MLRUN_META_TMPFILE": self.folder + "/meta.json",
            "HOME": self.folder,
        }
        env.update({"MLRUN_DEFAULT_PROJECT": "demo", "MLRUN_ACTIVE_PROJECT": "demo", "MLRUN_DBPATH": ""})
        self.write("train.py", code)
        answer, emitted, host = self.run_code(
            code, run=run, env=env, **dict({"file": self.folder + "/train.py"}, **load)
        )
        merged = {"results": {}, "labels": {}}
        for record in emitted:
            if record["t"] == "update" and not record.get("iter"):
                for what in merged:
                    merged[what].update(record.get(what, {}))
        return answer, merged, emitted, host

    def test_handler_gets_the_real_context_and_parsed_inputs(self):
        csv = self.write("d.csv", "a,b\n1,2\n3,4\n")
        code = """
            import mlrun, pandas
            def handler(context, df: pandas.DataFrame, raw, x=1):
                context.log_result("kinds", [type(context).__module__, type(df).__module__, type(raw).__module__])
                context.log_artifact("note", body="text", format="txt")
                context.set_label("l", "v")
                return int(df["a"].sum()) * x
            """
        answer, merged, emitted, host = self.run_document(code, self.document(inputs={"df": csv, "raw": csv}))
        self.assertEqual(answer["state"], "completed", host.log())
        kinds = ["mlrun.execution", "pandas.core.frame", "mlrun.datastore.base"]
        self.assertEqual(merged["results"], {"kinds": kinds, "return": 8})
        self.assertEqual(merged["labels"]["l"], "v")
        self.assertEqual([r["key"] for r in emitted if r["t"] == "artifact"], ["note"])
        with open(self.folder + "/meta.json") as file:
            self.assertEqual(json.load(file)["status"]["results"]["kinds"], kinds)

    def test_inputs_are_parsed_by_the_hints_of_the_run(self):
        csv = self.write("d.csv", "a,b\n1,2\n3,4\n")
        code = "import mlrun\ndef handler(df, x=1):\n    return [type(df).__module__, int(df['a'].sum())]\n"
        answer, merged, _, host = self.run_document(code, self.document(inputs={"df : pandas.DataFrame": csv}))
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertEqual(merged["results"], {"return": ["pandas.core.frame", 4]})

    def test_decorated_handler_without_context_or_inputs(self):
        code = "from mlrun.package import handler\n@handler(outputs=['n'])\ndef f(x):\n    return x\n"
        answer, merged, _, host = self.run_document(code, self.document(), handler="f")
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertEqual(merged["results"], {"n": 2})

    def test_returns_are_packed_for_a_handler_without_context(self):
        code = "import mlrun, pandas\ndef handler(x):\n    return x, pandas.DataFrame({'a': [x]})\n"
        run = self.document(returns=["number", "frame : dataset"])
        answer, merged, emitted, host = self.run_document(code, run)
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertEqual(merged["results"], {"number": 2})
        self.assertEqual(
            [(r["key"], r["doc"]["kind"]) for r in emitted if r["t"] == "artifact"], [("frame", "dataset")]
        )

    def test_failure_keeps_what_was_logged(self):
        code = "import mlrun\ndef handler(context):\n    context.log_result('before', 1)\n    raise ValueError('v')\n"
        answer, merged, _, _ = self.run_document(code, self.document())
        self.assertEqual((answer["state"], answer["failure"]["message"]), ("error", "v"))
        self.assertEqual(merged["results"], {"before": 1})

    def test_script_that_makes_its_context(self):
        code = """
            import mlrun
            context = mlrun.get_or_create_ctx("other-name")
            context.log_result("x", context.get_param("x"))
            for y in (1, 2):
                child = context.get_child_context(y=y)
                child.log_result("z", y * 10)
                child.commit(completed=True)
            """
        answer, merged, emitted, host = self.run_document(code, self.document(), mode="main")
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertEqual(merged["results"], {"x": 2})
        table = next(r["table"] for r in emitted if r["t"] == "iterations")
        self.assertEqual(
            table, [["state", "iter", "param.y", "output.z"], ["completed", 1, 1, 10], ["completed", 2, 2, 20]]
        )
