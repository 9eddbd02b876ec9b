"""Functions in the style of a public hub, run by two servers: one whose
interpreter has the mlrun package, one whose interpreter has not, so that the
functions get what is built in. Their results and artifacts must be equal."""

import json
import os
import pathlib
import random
import sqlite3
import zipfile

import mlrun
import pandas
from flow import URL, Flow

FACADE_URL = os.environ["MILLRACE_FACADE_URL"]
HUB = pathlib.Path(__file__).parent / "hub"
# The SDK draws these from child contexts; a server of ours keeps the table itself.
SUMMARIES = ("iteration_results", "parallel_coordinates")
# What must be equal of an artifact's spec and status.
SPEC = (
    "algorithm", "framework", "header", "inputs", "label_column", "length", "metrics", "model_file", "outputs",
    "parameters", "viewer",
)  # fmt: skip
RELEASE = tuple(int(part) for part in mlrun.__version__.split(".")[:2])
TEXT = (".csv", ".json", ".html", ".txt", ".bin", ".md")


class Outcome:
    """One run as one of the servers made it."""

    def __init__(self, run, document, artifacts):
        self.state = run.state()
        self.results = run.status.results or {}
        self.labels = {k: v for k, v in document["metadata"]["labels"].items() if k in ("class", "stage")}
        # The SDK leaves the state of a completed child context out of its table.
        self.iterations = [row[1:] for row in run.status.to_dict().get("iterations") or ()]
        self.artifacts = artifacts

    def uri(self, key):
        """Return the store:// URI of an artifact."""
        document = self.artifacts[key]
        prefix = {"model": "models", "dataset": "datasets"}.get(document.get("kind"), "artifacts")
        metadata, name = document["metadata"], document["spec"]["db_key"]
        return f"store://{prefix}/{metadata['project']}/{name}@{metadata['tree']}"

    def compared(self):
        return {
            "state": self.state,
            "results": self.results,
            "labels": self.labels,
            "iterations": self.iterations,
            "artifacts": {key: self.artifact(key) for key in sorted(self.artifacts) if key not in SUMMARIES},
        }

    def artifact(self, key):
        """Return what must be equal of an artifact, its content included."""
        document = self.artifacts[key]
        metadata, spec, status = (document.get(part) or {} for part in ("metadata", "spec", "status"))
        found = {"kind": document.get("kind"), "labels": metadata.get("labels") or {}}
        found.update({name: spec[name] for name in SPEC if spec.get(name)})
        found["schema"] = [field["name"] for field in (spec.get("schema") or {}).get("fields", ())]
        found["preview"] = status.get("preview")
        found["stats"] = rounded(status.get("stats"))
        if document.get("kind") == "dir":  # whose files the SDK does not record
            return found
        found["extra"] = sorted(spec.get("extra_data") or {})
        recorded = spec.get("unpackaging_instructions") or {}
        found["packed"] = {k: v for k, v in recorded.items() if k != "instructions"}
        if recorded.get("artifact_type") != "object":  # that one records versions
            found["packed"]["instructions"] = recorded.get("instructions")
        found["inline"] = spec.get("inline")
        path = pathlib.Path(spec.get("target_path") or "/nonexistent")
        suffix = path.suffix
        if suffix == ".html" and document.get("kind") == "plotly":
            found["content"] = "plotly" in path.read_text()
        elif suffix in TEXT:
            found["content"] = path.read_bytes()
        elif suffix in (".parquet", ".pq"):
            frame = pandas.read_parquet(path)
            found["content"] = [list(frame.columns), frame.values.tolist()]
        elif suffix:
            found["content"] = path.stat().st_size > 0
        return found


def rounded(value):
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


class Hub(Flow):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        mlrun.set_environment(FACADE_URL)
        mlrun.get_or_create_project(cls.project_name, context=str(cls.folder / "facade"))
        draw = random.Random(5)
        rows = ["a,b,c,label"]
        for number in range(60):
            label = number % 2
            rows.append(f"{draw.gauss(2 * label, 1):.3f},{draw.gauss(0, 1):.3f},{draw.gauss(-label, 0.5):.3f},{label}")
        cls.table = cls.folder / "table.csv"
        cls.table.write_text("\n".join(rows) + "\n")

    def on(self, url, name, handler, **options):
        """Run a function of hub/ by the server at url."""
        mlrun.set_environment(url)
        function = mlrun.code_to_function(
            name.replace("_", "-"), project=self.project_name, filename=str(HUB / (name + ".py")), kind="job",
            image="mlrun/mlrun",
        )  # fmt: skip
        db = mlrun.get_run_db()
        try:
            run = function.run(handler=handler, watch=False, **options)
            run.wait_for_completion(raise_on_failure=False, show_logs=False)
        finally:
            mlrun.set_environment(url)
        if run.state() != "completed":
            log = db.get_log(run.uid(), self.project_name)[1].decode()
            self.fail(f"{name} by {url}: {run.error}\n{log}")
        artifacts = {}
        for document in db.list_artifacts(project=self.project_name, tree=run.uid()):
            artifacts[document["metadata"]["key"]] = document
        return Outcome(run, db.read_run(run.uid(), self.project_name), artifacts)

    def both(self, name, handler, inputs=None, **options):
        """Run by both servers and compare; inputs may be a function of the server's URL."""
        real, facade = (
            self.on(url, name, handler, inputs=inputs(url) if callable(inputs) else inputs, **options)
            for url in (URL, FACADE_URL)
        )
        self.assertEqual(facade.compared(), real.compared())
        self.outcomes = {URL: real, FACADE_URL: facade}
        return facade

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

    def test_a_model_with_extra_data(self):
        logged = self.both("model_extras", "log", params={"weights": [1, 2, 3]})
        self.assertEqual(set(logged.artifacts), {"net", "curve"})
        self.assertEqual(set(logged.artifacts["net"]["spec"]["extra_data"]), {"notes.txt", "raw.bin", "curve"})
        outcomes = self.outcomes
        loaded = self.both("model_extras", "load", lambda url: {"model": outcomes[url].uri("net")})
        self.assertEqual(loaded.results["notes"], "trained by hand")

    def test_a_module_that_is_also_a_server(self):
        found = self.both("served_model", "fit", params={"xs": [1, 2], "ys": [2, 4]})
        self.assertEqual((found.results["slope"], found.results["server"]), (2.0, ["Server", True, True]))

    def test_nothing_as_a_result(self):
        if RELEASE < (1, 12):
            return  # the SDK turned None into the text None
        found = self.both("nothing", "search", returns=["found", "table", "deep"])
        self.assertEqual(found.results, {"found": None, "table": [1, None], "deep": {"a": {"b": None}}, "direct": None})

    def test_pages_beside_a_table(self):
        plain = self.both("describe_plots", "analyze", {"table": str(self.table)}, params={"name": "described"})
        self.assertEqual(plain.results, {"stored": False, "kinds": [True] * 3, "pages": ["describe csv", "violin"]})
        self.assertEqual(set(plain.artifacts), {"describe-csv", "violin", "hist", "dataset"})
        self.assertEqual(plain.artifacts["dataset"]["spec"]["db_key"], "described")
        self.assertEqual(set(plain.artifacts["dataset"]["spec"]["extra_data"]), {"describe csv", "violin"})
        cleaned = self.both("clean_data", "clean", {"raw": str(self.table)}, params={"columns": ["a", "b", "label"]})
        self.assertEqual(set(cleaned.artifacts), {"cleaned", "held-out"})
        outcomes = self.outcomes
        self.both("describe_plots", "analyze", lambda url: {"table": outcomes[url].uri("cleaned")})
        for url, outcome in outcomes.items():  # the data set of the earlier run names the pages of the later one
            mlrun.set_environment(url)
            tree = outcome.artifacts["cleaned"]["metadata"]["tree"]
            listed = mlrun.get_run_db().list_artifacts(project=self.project_name, tree=tree)
            (kept,) = [document for document in listed if document["metadata"]["key"] == "cleaned"]
            self.assertEqual(set(kept["spec"]["extra_data"]), {"describe csv", "violin"}, url)
            self.assertEqual(kept["metadata"]["labels"]["data-type"], "cleaned", url)

    def test_to_parquet(self):
        found = self.both("to_parquet", "archive", {"archive_url": str(self.table)})
        self.assertEqual(found.results, {"chunks": 3, "size": True})
        path = self.folder / "rows.db"
        with sqlite3.connect(path) as connection:
            pandas.read_csv(self.table).to_sql("rows", connection, index=False)
        params = {"sql_query": "select a, label from rows where label = 1"}
        self.assertEqual(self.both("to_parquet", "query", {"database": str(path)}, params=params).results, {"rows": 30})

    def test_votes(self):
        params = {"label_column": "label", "output_vector_name": "v"}
        found = self.both("vote_features", "select", {"df_artifact": str(self.table)}, params=params)
        self.assertEqual(found.results, {"stored": False, "named": False, "chosen": ["a", "c"]})
        self.assertEqual(set(found.artifacts), {"f_classif", "f_regression", "feature_scores"})

    def test_a_program(self):
        found = self.both("main_program", "", {"table": str(self.table)}, params={"rounds": 2})
        self.assertEqual(found.results, {"loss": 0.25, "rows": 60, "same": True})
        self.assertEqual(set(found.artifacts), {"losses", "line"})

    def test_a_folder_of_files(self):
        folder = self.folder / "texts"
        folder.mkdir()
        for name, text in (("a.txt", "one"), ("b.txt", "two"), ("c.txt", "drei für")):
            (folder / name).write_text(text, encoding="utf-8")
        found = self.both(
            "translate_files", "translate", params={"data_path": str(folder), "verbose": True},
            returns=["texts : path", "files : dataset", "errors : file"],
        )  # fmt: skip
        self.assertEqual(set(found.artifacts), {"texts", "files", "errors"})

    def test_latest_files(self):
        folder = self.folder / "parts"
        folder.mkdir()
        frame = pandas.read_csv(self.table)
        frame[:30].to_csv(folder / "one.csv", index=False)
        frame[30:].to_parquet(folder / "two.pq", index=False)
        (folder / "notes.txt").write_text("no table")
        inputs = {"df_artifact": f"{folder}/"}
        found = self.both("latest_files", "aggregate", inputs, params={"metrics": ["a", "b"]})
        self.assertEqual(found.results, {"files": ["one.csv", "two.pq"]})

    def test_data_items(self):
        frame = pandas.DataFrame(
            {"a": [1, 2, 3], "b": ["x", "y", "z"], "t": ["2020-01-01", "2021-01-01 05:00", "2023-01-01"]}
        )
        paths = {"table": "items.csv", "frame": "items.parquet", "rows": "items.json"}
        paths = {name: str(self.folder / path) for name, path in paths.items()}
        frame.to_csv(paths["table"], index=False)
        frame.to_parquet(paths["frame"], index=False)
        frame.to_json(paths["rows"], orient="records")
        found = self.both("data_items", "ask", paths)
        self.assertEqual(found.results["times"]["rows"], [["2", "y", "2021-01-01 05:00:00"]])
        self.assertTrue(found.results["refused"])
