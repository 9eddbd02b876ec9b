"""Packagers that a project adds."""

from __future__ import annotations

import importlib.util
import os
import unittest

from tests.host import WorkerCase

PACKAGERS = """
import json
import mlrun
from mlrun import ArtifactType, DefaultPackager
from mlrun.artifacts import Artifact, ModelArtifact


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


class Pixel(Point):
    pass


class Net:
    weights = [1, 2]


class PointPackager(DefaultPackager):
    PACKABLE_OBJECT_TYPE = Point
    DEFAULT_PACKING_ARTIFACT_TYPE = "file"
    DEFAULT_UNPACKING_ARTIFACT_TYPE = "file"

    def pack_file(self, obj, key, digits=2):
        path = key + ".json"
        with open(path, "w") as file:
            json.dump([round(obj.x, digits), round(obj.y, digits)], file)
        self.add_future_clearing_path(path)
        return Artifact(key=key, src_path=path), {"digits": digits}

    def pack_result(self, obj, key):
        return {key: {"x": obj.x, "y": obj.y}}

    def unpack_file(self, data_item, digits=None):
        with open(self.get_data_item_local_path(data_item)) as file:
            point = Point(*json.load(file))
        point.digits = digits
        return point


class NetPackager(mlrun.DefaultPackager):
    PACKABLE_OBJECT_TYPE = Net
    PACK_SUBCLASSES = True
    DEFAULT_PACKING_ARTIFACT_TYPE = ArtifactType.MODEL

    def pack_model(self, obj, key):
        return ModelArtifact(key=key, body=json.dumps(obj.weights).encode(), model_file="net.json"), {}


class _Hidden(DefaultPackager):
    PACKABLE_OBJECT_TYPE = int
"""


@unittest.skipIf(importlib.util.find_spec("mlrun"), "this interpreter has the mlrun package")
class PackagersTest(WorkerCase):
    def execute(self, body, *returns, packagers=(["shapes.*", True],), inputs=None, signature=""):
        """Return the answer, results and documents of a handler of the module shapes' project."""
        self.write("shapes.py", PACKAGERS)
        code = "from shapes import *\ndef handler(%s):\n    %s\n" % (signature, body)
        spec = {"returns": list(returns), "output_path": self.folder + "/out", "custom_packagers": list(packagers)}
        run = {"metadata": {"name": "r", "uid": "u", "project": "p"}, "spec": dict(spec, inputs=inputs or {})}
        answer, emitted, host = self.run_code(code, run=run)
        self.log = host.log()
        results, documents = {}, {}
        for record in emitted:
            results.update(record.get("results", {}))
            if record["t"] == "artifact":
                documents[record["key"]] = record["doc"]
        return answer, results, documents

    def test_values_are_packed_and_read_back(self):
        returns = ["a", {"key": "b", "digits": 0, "unknown": 1}, "c : result", "d : object", "e"]
        values = "return (Point(1.234, 2), Point(1.234, 2), Point(1, 2), Point(1, 2), Pixel(3, 4))"
        answer, results, documents = self.execute(values, *returns)
        self.assertEqual((answer["state"], results), ("completed", {"c": {"x": 1, "y": 2}}), self.log)
        recorded = {key: doc["spec"]["unpackaging_instructions"] for key, doc in documents.items()}
        self.assertEqual(
            recorded["a"],
            {"packager_name": "PointPackager", "object_type": "shapes.Point", "artifact_type": "file",
             "instructions": {"digits": 2}},
        )  # fmt: skip
        self.assertEqual((recorded["d"]["packager_name"], recorded["d"]["artifact_type"]), ("PointPackager", "object"))
        self.assertEqual(recorded["e"]["packager_name"], "DefaultPackager")
        with open(documents["b"]["spec"]["target_path"]) as file:
            self.assertEqual(file.read(), "[1.0, 2]")
        self.assertFalse(os.path.exists(self.folder + "/b.json"))
        path = documents["a"]["spec"]["target_path"]
        for hint, signature in (("", "p: Point"), (" : shapes.Point", "p")):
            body = "return [type(p).__name__, p.x, p.digits]"
            answer, results, _ = self.execute(body, inputs={"p" + hint: path}, signature=signature)
            self.assertEqual(results, {"return": ["Point", 1.23, None]}, self.log)

    def test_a_model_with_links(self):
        hint = {"key": "net", "extra_data": {"notes": "..."}, "metrics": {"loss": "...", "fixed": 3, "none": "..."}}
        answer, results, documents = self.execute("return Net(), {'a': 1}, 0.25", hint, "notes : file", "loss")
        self.assertEqual((answer["state"], results), ("completed", {"loss": 0.25}), self.log)
        spec = documents["net"]["spec"]
        self.assertEqual((documents["net"]["kind"], spec["metrics"]), ("model", {"loss": 0.25, "fixed": 3}))
        self.assertEqual(spec["extra_data"], {"notes": documents["notes"]["spec"]["target_path"]})
        self.assertIn("there is no output none to link as a metric of net", self.log)

    def test_one_that_cannot_be_used(self):
        for path, text in (
            ("nowhere.Packager", "No module named 'nowhere'"), ("shapes.Nothing", "the module shapes has no Nothing"),
            ("shapes.Point", "it is not a subclass of mlrun.Packager"),
        ):  # fmt: skip
            with self.subTest(path):
                said = "the packager %s of the project cannot be used: %s" % (path, text)
                answer, results, _ = self.execute("return 1", "k", packagers=[[path, False]])
                self.assertEqual(results, {"k": 1}, self.log)
                self.assertIn(said, self.log)
                answer, results, _ = self.execute("print('begun')\n    return 1", "k", packagers=[[path, True]])
                self.assertEqual(answer["failure"]["message"], said)
                self.assertNotIn("begun", self.log)

    def test_the_one_added_last_is_asked_first(self):
        more = "\nclass Late(PointPackager):\n    def pack_result(self, obj, key):\n        return {key: 'late'}\n"
        body = "return Point(1, 2)"
        self.write("late.py", "from shapes import *" + more)
        order = [["shapes.PointPackager", True], ["late.Late", True]]
        self.assertEqual(self.execute(body, "k : result", packagers=order)[1], {"k": "late"}, self.log)
        self.write("late.py", "from shapes import *" + more.replace("def", "PRIORITY = 9\n    def", 1))
        self.assertEqual(self.execute(body, "k : result", packagers=order)[1], {"k": {"x": 1, "y": 2}}, self.log)
