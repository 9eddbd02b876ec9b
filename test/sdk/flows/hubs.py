"""Runs functions in the style of a public hub by two servers: one whose
interpreter has the mlrun package, one whose interpreter has not, so that the
functions get what is built in. Their results and artifacts must be equal."""

import os
import pathlib
import random

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
    """What flows of such functions share."""

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

    def start(self, url, name, handler, **options):
        """Start a function of hub/ by the server at url; the answer ends when it has ended."""
        mlrun.set_environment(url)
        function = mlrun.code_to_function(
            name.replace("_", "-"), project=self.project_name, filename=str(HUB / (name + ".py")), kind="job",
            image="mlrun/mlrun",
        )  # fmt: skip
        db = mlrun.get_run_db()
        run = function.run(handler=handler, watch=False, **options)

        def end():
            mlrun.set_environment(url)
            try:
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

        return end

    def both(self, name, handler, inputs=None, **options):
        """Run by both servers and compare; inputs may be a function of the server's URL."""
        started = [
            self.start(url, name, handler, inputs=inputs(url) if callable(inputs) else inputs, **options)
            for url in (URL, FACADE_URL)
        ]
        real, facade = (end() for end in started)
        self.assertEqual(facade.compared(), real.compared())
        self.outcomes = {URL: real, FACADE_URL: facade}
        return facade
