"""The built-in `mlrun`, where the package itself is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import unittest

from tests.host import WorkerCase


@unittest.skipIf(importlib.util.find_spec("mlrun"), "this interpreter has the mlrun package")
class FacadeTest(WorkerCase):
    def said(self, statement):
        """Return the type and text of what statement raises in a handler."""
        code = "def handler():\n    try:\n        %s\n    except Exception as e:\n        return [type(e).__name__, str(e)]\n"
        return self.results(code % statement)["return"]

    def test_imports_in_every_style(self):
        code = """
            import mlrun
            import mlrun.artifacts as arts
            import mlrun.execution
            from mlrun import DataItem, MLClientCtx, get_or_create_ctx, handler as mlrun_handler
            from mlrun.artifacts import Artifact, DirArtifact
            from mlrun.artifacts.base import Artifact as Base
            from mlrun.datastore import DataItem as Item
            from mlrun.datastore.base import DataItem as Deep
            from mlrun.execution import MLClientCtx as Ctx
            from mlrun.run import get_dataitem
            from mlrun.utils import logger
            from mlrun.utils.helpers import now_date
            import millrace
            def handler(context: mlrun.MLClientCtx, data: mlrun.DataItem):
                assert isinstance(context, MLClientCtx) and Ctx is MLClientCtx is mlrun.execution.MLClientCtx
                assert isinstance(data, DataItem) and Item is Deep is DataItem is mlrun.datastore.DataItem
                assert Base is Artifact is arts.Artifact is mlrun.artifacts.Artifact is millrace.Artifact
                assert get_or_create_ctx("x") is context is mlrun.get_or_create_ctx("y")
                assert mlrun.get_dataitem(data.url).get() == data.get() == mlrun.get_object(data.url)
                assert mlrun.get_current_project().name == context.project == mlrun.mlconf.default_project
                assert issubclass(DirArtifact, Artifact) and now_date().tzinfo
                logger.info("a line", n=1)
                context.log_result("version", mlrun.__version__)
                return [data.get(encoding="utf-8"), sorted(n for n in dir(mlrun) if n == "artifacts")]
            """
        path = self.write("data.txt", "text")
        run = {"metadata": {"name": "r", "uid": "u", "project": "p"}, "spec": {"inputs": {"data": path}}}
        answer, emitted, host = self.run_code(code, run=run)
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertIn({"version": "1.12.1+millrace"}, [record.get("results") for record in emitted])
        self.assertEqual(emitted[-1]["results"]["return"], ["text", ["artifacts"]])
        self.assertRegex(host.log(), r'\[info\] a line: \{"n":1\}')

    def test_what_is_missing_says_what_to_do(self):
        end = " is not part of the mlrun built into Millrace; add `mlrun` to the function's requirements"
        cases = {
            "import mlrun.frameworks": ("ModuleNotFoundError", "mlrun.frameworks"),
            "import mlrun.frameworks.sklearn": ("ModuleNotFoundError", "mlrun.frameworks"),
            "from mlrun.frameworks.sklearn import apply_mlrun": ("ModuleNotFoundError", "mlrun.frameworks"),
            "from mlrun import nothing": ("ModuleNotFoundError", "mlrun.nothing"),
            "from mlrun import get_run_db, mlconf; get_run_db()": ("NotImplementedError", "mlrun.get_run_db"),
            "from mlrun.mlutils.data import get_sample": ("ModuleNotFoundError", "mlrun.mlutils"),
            "from mlrun.model import new_task; new_task('x')": ("NotImplementedError", "mlrun.model.new_task"),
            "from mlrun.artifacts import CodeArtifactSpec, LLMPromptArtifactSpec as L; L()": (
                "NotImplementedError",
                "mlrun.artifacts.LLMPromptArtifactSpec",
            ),
            "from mlrun.artifacts import CodeArtifactCodeType as C; C.PYTHON": (
                "AttributeError",
                "mlrun.artifacts.CodeArtifactCodeType.PYTHON",
            ),
            "from mlrun.datastore.targets import ParquetTarget as P; P(path='x')": (
                "NotImplementedError",
                "mlrun.datastore.ParquetTarget",
            ),
            "from mlrun.projects import MlrunProject; MlrunProject(metadata={})": (
                "NotImplementedError",
                "mlrun.projects.MlrunProject of another project",
            ),
            "import mlrun; mlrun.get_or_create_ctx('x').log_llm_prompt('k')": (
                "AttributeError",
                "MLClientCtx.log_llm_prompt",
            ),
            "import mlrun.errors; mlrun.errors.MLRunNothing": ("AttributeError", "mlrun.errors.MLRunNothing"),
            "import mlrun.secrets; mlrun.secrets.SecretsStore": ("AttributeError", "mlrun.secrets.SecretsStore"),
            "import mlrun.execution; mlrun.execution.x": ("AttributeError", "mlrun.execution.x"),
            "import mlrun.package; mlrun.package.PackagersManager": (
                "AttributeError",
                "mlrun.package.PackagersManager",
            ),
            "import mlrun.config; mlrun.config.read_env": ("AttributeError", "mlrun.config.read_env"),
            "from mlrun.artifacts import Nothing": ("ModuleNotFoundError", "mlrun.artifacts.Nothing"),
            "from mlrun.serving import Nothing": ("ModuleNotFoundError", "mlrun.serving.Nothing"),
            "from mlrun.serving import V2ModelServer; V2ModelServer('m')": (
                "NotImplementedError",
                "mlrun.serving.V2ModelServer",
            ),
            "from mlrun.serving.server import create_graph_server as c; c()": (
                "NotImplementedError",
                "mlrun.serving.create_graph_server",
            ),
            "from mlrun.feature_store import FeatureSet; FeatureSet.ingest": (
                "AttributeError",
                "mlrun.feature_store.FeatureSet.ingest",
            ),
            "from mlrun.datastore.base import Nothing": ("ModuleNotFoundError", "mlrun.datastore.base.Nothing"),
            "import mlrun.utils.deep": ("ModuleNotFoundError", "mlrun.utils.deep"),
            "import mlrun; mlrun.code_to_function('x')": ("NotImplementedError", "mlrun.code_to_function"),
            "import mlrun; mlrun.frameworks.sklearn": ("AttributeError", "mlrun.frameworks"),
            "import mlrun; mlrun.utils.nothing": ("AttributeError", "mlrun.utils.nothing"),
            "import mlrun; mlrun.mlconf.httpdb": ("AttributeError", "the setting mlconf.httpdb"),
            "import mlrun; mlrun.get_current_project().list_runs": ("AttributeError", "MlrunProject.list_runs"),
            "import mlrun; mlrun.get_object('x', db='http://other')": (
                "NotImplementedError",
                "a data item by another API (db=http://other)",
            ),
            "import mlrun; mlrun.store_manager.get_or_create_store('s3://b')": (
                "AttributeError",
                "store_manager.get_or_create_store",
            ),
            "import mlrun.datastore; mlrun.datastore.nothing": ("AttributeError", "mlrun.datastore.nothing"),
            "import mlrun; mlrun.get_or_create_ctx('x', spec={})": (
                "NotImplementedError",
                "get_or_create_ctx with an event or a spec",
            ),
        }
        code = ["def handler():", "    found = {}"]
        for statement in cases:
            code += ["    try:", "        " + statement, "    except Exception as e:"]
            code += ["        found[%r] = [type(e).__name__, str(e)]" % statement]
        found = self.results("\n".join([*code, "    return found", ""]))["return"]
        for statement, (kind, what) in cases.items():
            with self.subTest(statement):
                self.assertEqual(found.get(statement), [kind, what + end])

    def test_helpers_that_hub_functions_use(self):
        code = """
            from mlrun import Feature, MlrunProject, code_to_function, get_current_project, import_function, mount_v3io
            from mlrun.artifacts import DatasetArtifact, artifact_types
            from mlrun.datastore import parse_store_uri
            from mlrun.datastore.store_resources import is_store_uri
            from mlrun.features import Feature as Same
            from mlrun.model import RunObject
            from mlrun.utils import StorePrefix, parse_versioned_object_uri
            from mlrun.utils.helpers import create_class, create_function
            import mlrun

            class Server(mlrun.runtimes.MLModelServer):
                pass

            def handler(context, run: RunObject = None):
                uris = ("store://datasets/p/k#1:t@r", "store://p/k", "store://feature-vectors/p/v", "/x.csv")
                assert Feature is Same and artifact_types["dataset"] is DatasetArtifact
                project = context.get_project_object()
                assert isinstance(project, MlrunProject) and project.name == get_current_project().name == context.project
                return [
                    [list(parse_store_uri(uri)) for uri in uris], is_store_uri(uris[0]), StorePrefix.FeatureVector,
                    [list(parse_versioned_object_uri(uri, "mine")) for uri in ("p/n@h:t", "n", "n:t")],
                    create_class("collections.OrderedDict").__name__, create_function("json.dumps")([1]),
                    hasattr(context, "_mine"), Server.__name__,
                ]
            """
        uris = [["datasets", "p/k#1:t@r"], ["artifacts", "p/k"], ["feature-vectors", "p/v"], [None, ""]]
        versioned = [["p", "n", "t", "h"], ["mine", "n", "", ""], ["mine", "n", "t", ""]]
        expected = [uris, True, "feature-vectors", versioned, "OrderedDict", "[1]", False, "Server"]
        self.assertEqual(json.loads(json.dumps(self.results(code)["return"])), expected)

    def test_a_module_that_mentions_serving_can_be_imported(self):
        code = """
            from abc import ABC
            from typing import Union
            import mlrun
            import mlrun.feature_store as fstore
            import mlrun.serving
            from mlrun.feature_store import FeatureSet, FeatureVector
            from mlrun.serving import GraphContext, GraphServer, V2ModelServer
            from mlrun.serving.v2_serving import V2ModelServer as Deep

            class Model(V2ModelServer):
                def load(self):
                    self.model = 1
            class Other(mlrun.serving.ModelRouter, ABC):
                pass
            def step(x: GraphContext = None) -> GraphServer: ...

            def handler(table: Union[FeatureSet, mlrun.DataItem]):
                said = []
                for use in (lambda: Model("m"), lambda: Other(), lambda: fstore.ingest(1), lambda: Model.model_path):
                    try:
                        use()
                    except (NotImplementedError, AttributeError) as error:
                        said.append(str(error).partition(" is not part")[0])
                kinds = [Deep is V2ModelServer, isinstance(table, FeatureVector), type(table) in [FeatureSet]]
                return [said, kinds, table.get(encoding="utf-8"), Model.__name__]
            """
        run = {"spec": {"inputs": {"table": self.write("t.txt", "rows")}}}
        said = [
            "mlrun.serving.V2ModelServer",
            "mlrun.serving.ModelRouter",
            "mlrun.feature_store.ingest",
            "mlrun.serving.V2ModelServer.model_path",
        ]
        expected = [said, [True, False, False], "rows", "Model"]
        self.assertEqual(self.results(code, run=run)["return"], expected)

    def test_a_package_that_is_there_wins(self):
        os.makedirs(self.folder + "/site/mlrun")
        self.write("site/mlrun/__init__.py", "mine = 'installed'\n")
        code = """
            import mlrun
            def handler():
                try:
                    from mlrun.artifacts import Artifact
                except ModuleNotFoundError as error:
                    return [mlrun.mine, error.name]
            """
        found = self.results(code, start={"env": {"PYTHONPATH": self.folder + "/site"}})
        self.assertEqual(found["return"], ["installed", "mlrun.artifacts"])

    def test_a_finder_that_was_added_later_wins(self):
        os.makedirs(self.folder + "/src/mlrun")
        self.write("src/mlrun/__init__.py", "mine = 'editable'\n")
        code = """
            import sys, importlib.util
            class Editable:
                @staticmethod
                def find_spec(name, path=None, target=None):
                    if name == "mlrun":
                        return importlib.util.spec_from_file_location(name, %r)
            sys.meta_path.append(Editable)
            import mlrun
            def handler():
                return mlrun.mine
            """
        self.assertEqual(self.results(code % (self.folder + "/src/mlrun/__init__.py"))["return"], "editable")

    def test_nothing_is_loaded_unless_it_is_imported(self):
        code = """
            import sys
            def handler():
                return sorted(n for n in sys.modules if n.startswith("mlrun") or "facade" in n or n.endswith("pack"))
            """
        self.assertEqual(self.results(code)["return"], [])

    def test_context_by_annotation(self):
        for head, annotation in (
            ("import mlrun", "mlrun.MLClientCtx"),
            ("import mlrun", "mlrun.execution.MLClientCtx"),
            ("from mlrun.execution import MLClientCtx", "MLClientCtx"),
            ("from __future__ import annotations\nimport mlrun", "mlrun.MLClientCtx"),
        ):
            with self.subTest(annotation):
                code = "%s\ndef handler(ctx: %s, x=1):\n    return [type(ctx).__name__, x]\n" % (head, annotation)
                self.assertEqual(self.results(code)["return"], ["MLClientCtx", 1])

    def test_secrets_and_settings(self):
        code = """
            import mlrun
            def handler(context):
                return [
                    mlrun.get_secret_or_env("TOKEN"),
                    mlrun.get_secret_or_env("NONE", default="d"),
                    mlrun.get_secret_or_env("A", secret_provider={"A": "p"}),
                    mlrun.get_secret_or_env("A", secret_provider=lambda key: key + "!"),
                    mlrun.mlconf.artifact_path,
                ]
            """
        run = {"spec": {"output_path": "/tmp/out"}}
        found = self.results(code, run=run, env={"TOKEN": "t"})
        self.assertEqual(found["return"], ["t", "d", "p", "A!", "/tmp/out"])

    def test_errors(self):
        code = """
            import mlrun, mlrun.errors
            def handler():
                found = []
                for kind in (ValueError, mlrun.errors.MLRunBaseError):
                    try:
                        raise mlrun.errors.MLRunInvalidArgumentError("wrong")
                    except kind as error:
                        found.append([str(error), error.error_status_code])
                assert issubclass(mlrun.errors.MLRunRuntimeError, RuntimeError)
                assert mlrun.MLRunNotFoundError is mlrun.errors.MLRunNotFoundError
                return found
            """
        self.assertEqual(self.results(code)["return"], [["wrong", 400], ["wrong", 400]])

    def test_handler_decorator(self):
        code = """
            import mlrun
            @mlrun.handler(labels={"stage": 1}, outputs=["total", "*each", "names : file"])
            def handler(numbers: list, factor=1):
                return sum(numbers) * factor, numbers, ["a"]
            """
        path = self.write("n.json", "[1, 2]")
        run = {
            "metadata": {"name": "r", "uid": "u", "project": "p"},
            "spec": {"inputs": {"numbers": path}, "parameters": {"factor": 3}, "output_path": self.folder + "/out"},
        }
        answer, emitted, host = self.run_code(code, run=run)
        self.assertEqual(answer["state"], "completed", host.log())
        merged = {"results": {}, "labels": {}}
        for record in emitted:
            for what in merged:
                merged[what].update(record.get(what, {}))
        self.assertEqual(merged, {"results": {"total": 9, "each0": 1, "each1": 2}, "labels": {"stage": "1"}})
        artifact = next(r["doc"] for r in emitted if r["t"] == "artifact")
        self.assertEqual(artifact["metadata"]["key"], "names")
        with open(artifact["spec"]["target_path"]) as file:
            self.assertEqual(json.load(file), ["a"])

    def test_handler_decorator_variants(self):
        code = """
            import mlrun
            @mlrun.handler(outputs=["inner"])
            def helper(x):
                return x * 2
            @mlrun.handler(inputs=False)
            def raw(data: str):
                return type(data).__name__
            @mlrun.handler(inputs={"data": int, "text": "pathlib.Path"})
            def typed(data, text):
                return [data + 1, type(text).__name__]
            def handler(context, data):
                context.log_result("raw", raw(data))
                context.log_result("typed", typed(data, data))
                context.log_result("none", helper(4))
                return repr(helper.__name__)
            """
        run = {"spec": {"inputs": {"data": self.write("n.txt", "41\n")}}}
        found = self.results(code, run=run)
        self.assertEqual(
            found,
            {"raw": "DataItem", "typed": [42, "PosixPath"], "inner": 8, "none": None, "return": "'helper'"},
        )
