"""The same handler, once in the runtime of the server and once locally by the SDK: equal artifacts."""

import json
import os
import pathlib

import mlrun
from flow import Flow

CODE = """
import os
import pandas as pd


def kinds(context):
    if type(context).__module__.startswith("millrace"):
        import millrace
        return millrace
    import mlrun.artifacts
    from mlrun.artifacts.base import DirArtifact
    from mlrun.artifacts.dataset import DatasetArtifact, TableArtifact
    from mlrun.artifacts.model import ModelArtifact
    from mlrun.artifacts.plots import PlotArtifact, PlotlyArtifact
    class Kinds: pass
    for kind in (mlrun.artifacts.Artifact, DirArtifact, DatasetArtifact, TableArtifact, ModelArtifact, PlotArtifact,
                 PlotlyArtifact):
        setattr(Kinds, kind.__name__, kind)
    return Kinds


def frame():
    return pd.DataFrame({
        "x": [1, 2, 3], "y": [0.5, None, 2.5], "s": ["a", "b", "a"], "b": [True, False, True],
        "t": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]), "c": pd.Categorical(["u", "v", "u"]),
    })


def everything(context, folder):
    k = kinds(context)
    context.log_result("runtime", type(context).__module__.partition(".")[0])
    os.makedirs(folder, exist_ok=True)
    for name, text in (("x.txt", "1"), ("m.pkl", "mm"), ("e.txt", "ee"), ("f.csv", "a,b\\n1,2\\n")):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    context.log_artifact("bytes", body=b"abc", local_path="b.txt")
    context.log_artifact("text", body="abc", format="html", labels={"a": "1"}, viewer="web-app")
    context.log_artifact("suffixes", local_path=folder + "/m.pkl", tag="v1")
    context.log_artifact("inside", body="hello", is_inline=True)
    context.log_artifact("there", target_path=folder + "/x.txt")
    context.log_artifact("no-copy", local_path=folder + "/x.txt", upload=False)
    context.log_artifact(k.Artifact("object", body="of the class", format="txt"))
    context.log_artifact("folder", local_path=folder, upload=True)
    context.log_artifact(k.TableArtifact("table", df=frame()[["x", "s"]], visible=True))
    context.log_artifact(k.TableArtifact("table-text", body="a,b\\n1,2\\n", header=["a", "b"], format="csv"))
    context.log_dataset("parquet", frame())
    context.log_dataset("csv", frame(), format="csv", index=False, label_column="y")
    context.log_dataset("indexed", frame().set_index("s"), stats=True)
    context.log_dataset("long", pd.DataFrame({"n": range(50)}), preview=7, extra_data={"k": "v"})
    context.log_dataset("wide", pd.DataFrame({"c%d" % n: [n] for n in range(150)}), stats=False)
    context.log_dataset("numbered", pd.DataFrame([[1, 2], [3, 4]]))
    context.log_dataset("unlimited", pd.DataFrame({"n": range(50)}), ignore_preview_limits=True)
    context.log_dataset("not-stored", frame(), upload=False)
    context.log_dataset("empty", pd.DataFrame({"n": []}))
    context.log_dataset("of-a-file", frame(), local_path=folder + "/f.csv")
    context.log_dataset("described", frame()[["x"]], column_metadata={"x": {"unit": "m"}})
    context.log_model("model", model_dir=folder, model_file="m.pkl", metrics={"acc": 0.5},
                      parameters={"p": [1, "two: three"]}, training_set=frame(), label_column="y", framework="sk",
                      extra_data={"e": "e.txt", "raw": b"123"}, labels={"q": "w"})
    context.log_model("body", body=b"bbb", model_file="z.bin", algorithm="al",
                      feature_weights=[0.5, 0.25], feature_vector="store://feature-vectors/p/v")
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    context.log_artifact(k.PlotArtifact("png", body=b"\\x89PNG...", title="A title"))
    figure = plt.figure()
    figure.gca().plot([1, 2], [3, 4])
    context.log_artifact(k.PlotArtifact("figure", body=figure))
    import plotly.graph_objects as go
    context.log_artifact(k.PlotlyArtifact(go.Figure(data=[go.Bar(y=[1, 2])]), key="plotly"))
    if hasattr(context, "log_document") and context.get_param("documents", False):
        context.log_document("document", local_path=folder + "/x.txt")
"""

READING = """
import millrace
import pandas as pd


def said(call):
    try:
        call()
    except ValueError as error:
        return str(error)


def reading(context, folder):
    frame = pd.DataFrame({"a": [1, 2, 3], "t": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])})
    frame.to_parquet(folder + "/t.parquet")
    frame.to_csv(folder + "/t.csv", index=False)
    with open(folder + "/t.parquet", "rb") as file:
        raw = file.read()
    for name, data in (("cut", raw[:-20]), ("hole", raw[:40] + raw[80:])):
        with open(folder + "/" + name + ".parquet", "wb") as file:
            file.write(data)
        path = folder + "/" + name + ".parquet"
        context.log_result(name, said(lambda: context.get_dataitem(path).as_df()))
        context.log_result(name + "-logged", said(lambda: context.log_dataset("k", local_path=path)))
    parquet, text = context.get_dataitem(folder + "/t.parquet"), context.get_dataitem(folder + "/t.csv")
    between = parquet.as_df(columns=["a"], time_column="t", start_time="2024-01-01", end_time="2024-01-02")
    context.log_result("between", between.values.tolist())
    context.log_result("after", len(text.as_df(time_column="t", start_time="2024-01-02")))
    context.log_result("columns", list(text.as_df(columns=["a"]).columns))
    context.log_result("file", context.log_dataset("file", local_path=folder + "/t.parquet").header)
    many = pd.DataFrame({"n": range(1_000_001)})
    context.log_result("many", said(lambda: context.log_dataset("many", many, ignore_preview_limits=True)))
    numbered = pd.DataFrame([[1, 2]])
    context.log_dataset("numbered", numbered)
    context.log_result("untouched", list(numbered.columns))
"""

# What the runtime says more than the SDK does: sizes and hashes, and which files a folder has.
MORE = {("metadata", "hash"), ("spec", "size")}
# Random in every figure that plotly draws.
RANDOM = {"plotly"}


class EqualArtifacts(Flow):
    def test_every_kind(self):
        documents = hasattr(mlrun.MLClientCtx, "log_document")
        path = self.write("equal.py", CODE)
        ours_folder = self.folder / "ours"
        run = self.cli_json(
            "run", path, "--handler", "everything", "--name", "equal", "--artifact-path", str(ours_folder),
            "--param", f"folder={self.folder / 'made'}", "--param", f"documents={json.dumps(documents)}",
        )  # fmt: skip
        self.assertEqual(run["status"]["state"], "completed", run["status"])
        self.assertEqual(run["status"]["results"]["runtime"], "millrace")
        local = mlrun.new_function(
            "equal", project=self.project_name, kind="local", command=path
        )  # fmt: skip
        os.environ["MLRUN_ARTIFACTS__GENERATE_TARGET_PATH_FROM_ARTIFACT_HASH"] = "false"
        mlrun.mlconf.artifacts.generate_target_path_from_artifact_hash = False
        done = local.run(
            handler="everything", name="equal", local=True, artifact_path=str(self.folder / "theirs"),
            params={"folder": str(self.folder / "made"), "documents": documents},
        )  # fmt: skip
        self.assertEqual(done.status.results["runtime"], "mlrun")
        # Some releases put the project's own path before that of the run.
        theirs_folder = pathlib.Path(done.spec.output_path)
        ours = self.documents(run["metadata"]["uid"], ours_folder)
        theirs = self.documents(done.metadata.uid, theirs_folder)
        self.assertEqual(sorted(ours), sorted(theirs))
        self.assertGreaterEqual(len(ours), 26)
        for key, expected in sorted(theirs.items()):
            with self.subTest(artifact=key):
                found = ours[key]
                for part in ("metadata", "spec", "status"):
                    for name in set(found[part]) - set(expected[part]):
                        known = (
                            (part, name) in MORE
                            or found[part][name] == ""
                            or (found["kind"], name) == ("dir", "extra_data")
                        )
                        self.assertTrue(known, f"{part}.{name} = {found[part][name]!r} is ours alone")
                        del found[part][name]
                if key in RANDOM:
                    for document in (found, expected):
                        del document["metadata"]["hash"], document["spec"]["size"]
                self.assertEqual(found, expected)
        mine, yours = self.files(ours_folder), self.files(theirs_folder)
        self.assertEqual(sorted(mine), sorted(yours))
        for name, content in yours.items():
            if not any(key in name for key in RANDOM):
                with self.subTest(file=name):
                    self.assertEqual(mine[name], content)

    def test_frames_are_read(self):
        path = self.write("reading.py", READING)
        run = self.cli_json("run", path, "--handler", "reading", "--param", f"folder={self.folder}")
        results = run["status"]["results"]
        for name in ("cut", "cut-logged", "hole", "hole-logged"):
            self.assertIn("is not a complete Parquet file", results.pop(name))
        self.assertIn("more than a million values", results.pop("many"))
        expected = {
            "between": [[2]], "after": 1, "columns": ["a"], "file": ["index", "a", "t"], "untouched": [0, 1],
        }  # fmt: skip
        self.assertEqual(results, expected)

    def documents(self, uid, folder):
        """The stored artifacts of a run by key, without what differs from run to run."""
        found = {}
        for document in self.db.list_artifacts(project=self.project_name, tree=uid, tag="*").to_objects():
            text = json.dumps(document.to_dict(), default=str, sort_keys=True)
            document = json.loads(text.replace(uid, "UID").replace(str(folder), "PATH"))
            for name in ("created", "updated", "uid", "tag"):
                document["metadata"].pop(name, None)
            found[document["metadata"]["key"]] = document
        return found

    def files(self, folder):
        """The stored files by their paths; model_spec.yaml as read."""
        import yaml

        found = {}
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.is_dir():
                continue
            name = str(path.relative_to(folder))
            found[name] = path.read_bytes()
            if name.endswith(".yaml"):
                document = yaml.safe_load(found[name].replace(str(folder).encode(), b"PATH"))
                for part, field in (("metadata", "tree"), ("spec", "producer"), ("spec", "has_children")):
                    document[part].pop(field, None)
                found[name] = document
        return found
