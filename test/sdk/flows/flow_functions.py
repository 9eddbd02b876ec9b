"""Functions (29.3, 29.4): saved, versioned, tagged, read back, exported, deleted."""

import json

import mlrun
from flow import Flow

CODE = '''
def train(context, rate: float = 0.1, depth=3):
    """Train a model.

    :param rate:  how fast it learns
    :param depth: how deep it is
    """
    context.log_result("rate", rate)
'''


class Functions(Flow):
    def test_saved_and_read_back_whole(self):
        fn = self.job("whole", CODE, handler="train", description="trains", categories=["x"], labels={"a": "b"})
        fn.spec.env = [{"name": "COLOUR", "value": "blue"}]
        fn.with_requests(mem="100M", cpu=0.5)
        fn.spec.priority_class_name = ""
        uri = fn.save()
        self.assertEqual(uri, f"db://{self.project_name}/whole")
        back = mlrun.import_function(uri)
        self.assertEqual(back.kind, "job")
        self.assertEqual(back.spec.default_handler, "train")
        self.assertEqual(back.spec.description, "trains")
        self.assertEqual(back.metadata.categories, ["x"])
        self.assertEqual(back.metadata.labels, {"a": "b"})
        self.assertEqual(back.spec.build.functionSourceCode, fn.spec.build.functionSourceCode)
        self.assertEqual(back.spec.resources["requests"]["memory"], "100M")
        self.assertEqual(back.get_env("COLOUR") if hasattr(back, "get_env") else "blue", "blue")
        doc = back.spec.entry_points["train"]["doc"] if "train" in back.spec.entry_points else ""
        self.assertIn("Train a model", doc)

    def test_every_kind_is_kept_faithfully(self):
        kinds = ("job", "dask", "spark", "mpijob", "nuclio", "serving", "databricks", "application", "remote-spark")
        for kind in kinds:
            with self.subTest(kind=kind):
                name = "kind-" + kind
                if kind in ("nuclio", "serving"):
                    fn = mlrun.code_to_function(
                        name, project=self.project_name, kind=kind, image="x", filename=self.write("k.py", CODE)
                    )
                else:
                    fn = mlrun.new_function(name, project=self.project_name, kind=kind, image="x")
                fn.save()
                sent, back = fn.to_dict(), self.db.get_function(name, self.project_name)
                self.assertEqual(back["kind"], sent["kind"])
                self.assertEqual(json.loads(json.dumps(back["spec"])), json.loads(json.dumps(sent["spec"])))
                mlrun.import_function(f"db://{self.project_name}/{name}")

    def test_versions_are_immutable_and_found_by_hash(self):
        fn = self.job("versions", CODE)
        first = fn.save(versioned=True)
        fn.spec.description = "changed"
        second = fn.save(versioned=True)
        self.assertNotEqual(first, second)
        self.assertRegex(first, r"@[0-9a-f]{40}$")
        self.assertFalse(mlrun.import_function(first).spec.description)
        self.assertEqual(mlrun.import_function(second).spec.description, "changed")
        latest = mlrun.import_function(f"db://{self.project_name}/versions")
        self.assertEqual(latest.spec.description, "changed")

    def test_the_same_content_has_the_same_hash(self):
        one = self.job("same", CODE).save(versioned=True)
        two = self.job("same", CODE).save(versioned=True)
        self.assertEqual(one, two)

    def test_tags(self):
        fn = self.job("tagged", CODE)
        fn.save(versioned=True)
        fn.spec.description = "release"
        fn.save(tag="v1", versioned=True)
        self.assertEqual(mlrun.import_function(f"db://{self.project_name}/tagged:v1").spec.description, "release")
        self.assertFalse(mlrun.import_function(f"db://{self.project_name}/tagged:latest").spec.description)

    def test_from_a_notebook(self):
        cells = ["raise RuntimeError('not part of it')", "# mlrun: start-code\n", CODE, "# mlrun: end-code\n"]
        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {},
            "cells": [
                {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": c}
                for c in cells
            ],
        }
        path = self.write("nb.ipynb", json.dumps(notebook))
        fn = mlrun.code_to_function("nb", project=self.project_name, filename=path, kind="job", image="x")
        uri = fn.save()
        self.assertIn("train", mlrun.import_function(uri).spec.entry_points)

    def test_exported_and_imported(self):
        fn = self.job("exported", CODE, handler="train")
        path = str(self.folder / "exported.yaml")
        fn.export(path)
        back = mlrun.import_function(path)
        self.assertEqual(back.metadata.name, "exported")
        self.assertEqual(back.spec.default_handler, "train")
        stored = mlrun.import_function(back.save())
        self.assertEqual(stored.spec.build.functionSourceCode, fn.spec.build.functionSourceCode)

    def test_get_function_of_the_project(self):
        self.job("of-the-project", CODE, handler="train").save()
        fn = self.project.get_function("of-the-project", ignore_cache=True)
        self.assertEqual(fn.spec.default_handler, "train")

    def test_one_that_is_not_there(self):
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            mlrun.import_function(f"db://{self.project_name}/nothing")
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.project.get_function("nothing", ignore_cache=True)

    def test_set_function_of_the_project(self):
        path = self.write("set.py", CODE)
        self.project.set_function(path, name="set-fn", kind="job", image="x", handler="train")
        self.project.sync_functions(save=True)
        self.project.get_function("set-fn").save()
        self.assertEqual(mlrun.import_function(f"db://{self.project_name}/set-fn").spec.default_handler, "train")

    def test_deleted_with_all_versions(self):
        fn = self.job("deleted", CODE)
        first = fn.save(versioned=True)
        fn.spec.description = "2"
        fn.save(tag="v2", versioned=True)
        self.db.delete_function("deleted", self.project_name)
        for uri in (first, f"db://{self.project_name}/deleted", f"db://{self.project_name}/deleted:v2"):
            with self.subTest(uri=uri), self.assertRaises(mlrun.errors.MLRunNotFoundError):
                mlrun.import_function(uri)

    def test_a_bad_document_is_refused(self):
        with self.assertRaises(mlrun.errors.MLRunBadRequestError):
            self.db.store_function({"kind": "job", "metadata": [], "spec": 5}, "bad", self.project_name)
