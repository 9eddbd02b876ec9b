"""Further functions in the style of a public hub (hubs.py)."""

import sqlite3

import mlrun
import pandas
from hubs import RELEASE, Hub


class MoreHubFunctions(Hub):
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
