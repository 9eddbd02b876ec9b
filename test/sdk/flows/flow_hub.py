"""Functions in the style of a public hub, with the package and without (hubs.py)."""

import json
import os
import zipfile

import mlrun
from flow import URL
from hubs import FACADE_URL, Hub


class HubFunctions(Hub):
    def test_describe_data(self):
        found = self.both("describe_data", "analyze", {"table": str(self.table)}, params={"name": "set"})
        self.assertEqual(set(found.artifacts), {"describe", "correlation", "histogram", "set"})
        self.assertEqual(found.results["classes"], {"0": 30, "1": 30})

    def test_train_test_and_infer(self):
        trained = self.both("train_classifier", "train", {"dataset": str(self.table)})
        self.assertEqual(set(trained.artifacts), {"model", "test_set"})
        self.assertGreater(trained.results["accuracy"], 0.7)
        outcomes = self.outcomes

        def model_and(url, **more):
            return {key: outcomes[url].uri(name) for key, name in more.items()}

        tested = self.both(
            "test_classifier", "test", lambda url: model_and(url, models_path="model", test_set="test_set")
        )
        self.assertEqual(tested.results["accuracy"], trained.results["accuracy"])
        inferred = self.both(
            "batch_inference", "infer", lambda url: dict(model_and(url, model_path="model"), dataset=str(self.table)),
            params={"label_column": "label"}, returns=["predictions : dataset", "share", "first"],
        )  # fmt: skip
        self.assertEqual(set(inferred.artifacts), {"predictions"})
        self.assertEqual(len(inferred.results["first"]), 3)

    def test_feature_selection(self):
        found = self.both("feature_selection", "select", {"df_artifact": str(self.table)}, params={"min_votes": 2})
        self.assertEqual(found.results["features"], ["a", "c"])

    def test_archives(self):
        path = self.folder / "data.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("one.txt", "1")
            archive.writestr("two.txt", "2")
        found = self.both("load_archive", "open_archive", {"archive_url": str(path)})
        self.assertEqual(found.results, {"files": ["one.txt", "two.txt"]})
        kept = found.artifacts["content"]["spec"]
        self.assertEqual(sorted(os.listdir(kept["target_path"])), ["one.txt", "two.txt"])
        self.assertEqual(sorted(kept["extra_data"]), ["one.txt", "two.txt"])

    def test_aggregate(self):
        path = self.write("series.csv", "k,value\nx,1\nx,2\ny,4\n" + "y,5\n" * 8)
        returns = ["grouped", "rolled : result", "values", "settings : file", "deviation"]
        found = self.both(
            "aggregate", "aggregate", {"df : pandas.DataFrame": path}, params={"keys": ["k"]}, returns=returns
        )
        self.assertEqual(set(found.artifacts), {"grouped", "values", "settings"})

    def test_text(self):
        path = self.write("words.txt", "the quick fox and the slow fox and the end")
        found = self.both("text_stats", "count", {"text": path})
        self.assertEqual(found.results, {"words": 10, "lengths": [3, 5], "letters": {"first": "the", "last": "end"}})
        self.assertEqual(set(found.artifacts), {"top", "summary"})

    def test_children(self):
        found = self.both("grid_children", "search", params={"values": [1.0, 2.0, 4.0]})
        self.assertEqual((found.results["best_iteration"], found.results["loss"]), (2, 0.0))

    def test_class(self):
        numbers = self.write("numbers.json", json.dumps([1, 2, 3]))
        params = {"_init_args": {"factor": 2}, "offset": 1}
        found = self.both("model_class", "Scaler::apply", {"numbers": numbers}, params=params)
        self.assertEqual((found.results["scaled"], found.results["return"]), ([3, 5, 7], 15))

    def test_plots(self):
        found = self.both("plots", "draw", params={"points": {"x": [1, 2], "y": [3, 4]}})
        self.assertEqual(set(found.artifacts), {"points", "page", "note", "raw"})

    def test_round_trip(self):
        hints = {
            "frame": "", "table": "file", "series": "", "array": "", "arrays": "", "mapping": "file", "pair": "file",
            "raw": "file", "number": "object",
        }  # fmt: skip
        returns = [f"{key} : {kind}" if kind else key for key, kind in hints.items()]
        self.both("round_trip", "produce", returns=returns)
        produced = self.outcomes
        read = self.both("round_trip", "consume", lambda url: {key: produced[url].uri(key) for key in hints})
        self.assertEqual(read.results["plain"], [{"deep": [1, {"x": 1.5}]}, [1, 2], "bytes", "(1+3j)"])

    def test_a_packager_of_the_project(self):
        for url in (URL, FACADE_URL):
            mlrun.set_environment(url)
            project = mlrun.get_or_create_project(self.project_name, context=str(self.folder / "packagers"))
            project.add_custom_packager("custom_packager.PolygonPackager", is_mandatory=True)
            project.save()
        try:
            drawn = self.both("custom_packager", "draw", returns=["square", "measured : result", "pickled : object"])
            self.assertEqual(drawn.results, {"measured": 4.0, "measured_points": 4})
            packed = drawn.artifacts["square"]["spec"]["unpackaging_instructions"]
            self.assertEqual((packed["packager_name"], packed["artifact_type"]), ("PolygonPackager", "file"))
            outcomes = self.outcomes
            measured = self.both(
                "custom_packager", "measure",
                lambda url: {"shape": outcomes[url].uri("square"), "again": outcomes[url].uri("pickled")},
            )  # fmt: skip
            self.assertEqual(measured.results, {"area": 4.0, "points": [[0, 0], [2, 0], [2, 2], [0, 2]]})
        finally:
            for url in (URL, FACADE_URL):
                mlrun.set_environment(url)
                project = mlrun.get_or_create_project(self.project_name, context=str(self.folder / "packagers"))
                project.spec.custom_packagers = []
                project.save()
