"""Plots, charts, tables and documents: logged by a run of the server and by the SDK, listed, read and deleted alike."""

import json
import os
import pathlib
import re

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
    from mlrun.artifacts.dataset import TableArtifact
    from mlrun.artifacts.plots import PlotArtifact, PlotlyArtifact
    class Kinds: pass
    for kind in (mlrun.artifacts.Artifact, TableArtifact, PlotArtifact, PlotlyArtifact):
        setattr(Kinds, kind.__name__, kind)
    return Kinds


def draws(context, folder, documents):
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import plotly.graph_objects as go
    k = kinds(context)
    context.log_result("runtime", type(context).__module__.partition(".")[0])
    context.log_artifact(k.PlotArtifact("png", body=b"\\x89PNG...", title="A title"), labels={"drawn": "yes"})
    figure = plt.figure()
    figure.gca().plot([1, 2], [3, 4])
    context.log_artifact(k.PlotArtifact("figure", body=figure), labels={"drawn": "yes"})
    context.log_artifact(k.PlotlyArtifact(go.Figure(data=[go.Bar(y=[1, 2])]), key="plotly"), tag="bars")
    context.log_artifact(k.Artifact("chart", body="<html>lines</html>", format="html", viewer="chart"))
    frame = pd.DataFrame({"x": [1, 2, 3], "s": ["a", "b", "c"]})
    context.log_artifact(k.TableArtifact("table", df=frame, visible=True), labels={"rows": "3"})
    context.log_artifact(k.TableArtifact("text", body="a,b\\n1,2\\n", header=["a", "b"], format="csv"))
    if documents:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "d.txt"), "w") as file:
            file.write("of words")
        context.log_document("document", local_path=os.path.join(folder, "d.txt"), upload=True, tag="read")


def chart(context):
    import millrace
    context.log_artifact(millrace.ChartArtifact("lines", [[1, 2], [2, 4]], ["x", "y"], title="Lines"))
"""

KINDS = {"png": "plot", "figure": "plot", "plotly": "plotly", "chart": "artifact", "table": "table", "text": "table"}
STRATEGIES = mlrun.common.schemas.artifact.ArtifactsDeletionStrategies


class KindsOfArtifacts(Flow):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.documents = hasattr(mlrun.MLClientCtx, "log_document")
        cls.kinds = dict(KINDS, document="document") if cls.documents else KINDS

    def keys(self, **filters):
        """The keys of a list, each once for each tag."""
        found = self.db.list_artifacts(project=self.project_name, **filters).to_objects()
        return sorted(artifact.metadata.key for artifact in found)

    def drawn(self, uid):
        """What a run logged, by key."""
        found = self.db.list_artifacts(project=self.project_name, tree=uid).to_objects()
        self.assertEqual({a.metadata.key: a.kind for a in found}, self.kinds)
        return {artifact.metadata.key: artifact for artifact in found}

    def same(self, artifact, uid, folder):
        """The document without what differs from run to run."""
        text = json.dumps(artifact.to_dict(), default=str, sort_keys=True)
        document = json.loads(text.replace(uid, "UID").replace(str(folder), "PATH"))
        for name in ("created", "updated", "uid", "tag", "hash"):
            document["metadata"].pop(name, None)
        document["spec"].pop("size", None)
        for part in ("metadata", "spec", "status"):
            document[part] = {name: value for name, value in document[part].items() if value not in ("", None)}
        return document

    def text(self, artifact):
        """The content; what plotly makes up anew for each page is left out."""
        content = mlrun.get_dataitem(artifact.spec.target_path).get()
        if artifact.kind == "plotly":
            return re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}", b"", content)
        return content

    def test_what_both_log_is_equal_and_can_be_deleted(self):
        path = self.write("draws.py", CODE)
        params = {"folder": str(self.folder / "made"), "documents": self.documents}
        ours = self.cli_json(
            "run", path, "--handler", "draws", "--name", "draws", "--artifact-path", str(self.folder / "ours"),
            "--param", f"folder={params['folder']}", "--param", f"documents={json.dumps(self.documents)}",
        )  # fmt: skip
        self.assertEqual(ours["status"]["results"]["runtime"], "millrace")
        os.environ["MLRUN_ARTIFACTS__GENERATE_TARGET_PATH_FROM_ARTIFACT_HASH"] = "false"
        mlrun.mlconf.artifacts.generate_target_path_from_artifact_hash = False
        local = mlrun.new_function("draws", project=self.project_name, kind="local", command=path).run(
            handler="draws", name="draws", local=True, artifact_path=str(self.folder / "theirs"), params=params
        )
        self.assertEqual(local.status.results["runtime"], "mlrun")
        theirs_folder = pathlib.Path(local.spec.output_path)
        theirs = self.drawn(local.metadata.uid)

        # The record of the server is what the SDK has in its hands.
        held = {document["metadata"]["key"]: document for document in local.status.artifacts}
        self.assertEqual(sorted(held), sorted(theirs))
        for key, document in held.items():
            with self.subTest(held=key):
                read = theirs[key].to_dict()
                for part in ("metadata", "spec"):
                    for name in ("key", "tree", "iter", "target_path", "format", "viewer", "db_key", "header"):
                        if name in document[part]:
                            self.assertEqual(read[part].get(name), document[part][name])

        mine = self.drawn(ours["metadata"]["uid"])
        for key in self.kinds:
            with self.subTest(artifact=key):
                self.assertEqual(
                    self.same(mine[key], ours["metadata"]["uid"], self.folder / "ours"),
                    self.same(theirs[key], local.metadata.uid, theirs_folder),
                )
                self.assertEqual(self.text(mine[key]), self.text(theirs[key]))
        self.assertIn(b"data:image/png;base64", self.text(theirs["figure"]))
        self.assertEqual(list(theirs["table"].to_dataitem().as_df()["s"]), ["a", "b", "c"])

        # Lists by what the kinds are.
        tree = local.metadata.uid
        for kind in ("plot", "plotly", "table", "document"):
            expected = sorted(key for key, known in self.kinds.items() if known == kind)
            self.assertEqual(self.keys(kind=kind, tree=tree, tag="latest"), expected, kind)
        self.assertEqual(self.keys(labels=["drawn=yes"], tree=tree, tag="latest"), ["figure", "png"])
        self.assertEqual(self.keys(labels=["rows"], tree=tree, tag="latest"), ["table"])
        self.assertEqual(self.keys(tag="bars"), ["plotly"])
        self.assertEqual(self.keys(name="~PLOTLY", tree=tree, tag="latest"), ["plotly"])
        other = mlrun.common.schemas.ArtifactCategories.other
        self.assertEqual(len(self.keys(category=other, tree=tree, tag="latest")), len(KINDS))
        self.assertEqual(self.keys(category=mlrun.common.schemas.ArtifactCategories.model), [])
        if self.documents:
            self.assertEqual(self.keys(tag="read"), ["document"])
            self.assertEqual(self.keys(category="document", tree=tree, tag="latest"), ["document"])
            self.assertIn("read", self.db.list_artifact_tags(self.project_name, "document"))
            address = theirs["document"].get_store_url().replace("/artifacts/", "/documents/", 1)
            for url in (theirs["document"].uri, address):
                self.assertEqual(mlrun.get_dataitem(url).get(), b"of words")

        # Deleted with their files, one after the other.
        for key, artifact in theirs.items():
            path = pathlib.Path(artifact.spec.target_path)
            self.assertTrue(path.exists(), key)
            self.db.del_artifact(
                artifact.spec.db_key,
                project=self.project_name,
                tree=tree,
                deletion_strategy=STRATEGIES.metadata_only,
            )
            self.assertTrue(path.exists(), key)
            with self.assertRaises(mlrun.errors.MLRunNotFoundError):
                self.db.read_artifact(artifact.spec.db_key, project=self.project_name, tree=tree)
        self.assertEqual(self.keys(tree=tree), [])
        self.assertEqual(len(set(self.keys(tree=ours["metadata"]["uid"]))), len(self.kinds))

    def test_content_of_every_kind_goes_with_its_record(self):
        """The project's artifacts, which are in the folder of the server."""
        import matplotlib.figure  # noqa: F401  the SDK expects that somebody did
        import pandas
        from mlrun.artifacts.dataset import TableArtifact
        from mlrun.artifacts.plots import PlotArtifact, PlotlyArtifact
        from plotly.graph_objects import Bar, Figure

        logged = [
            self.project.log_artifact(PlotArtifact("p", body=b"\x89PNG...")),
            self.project.log_artifact(PlotlyArtifact(Figure(data=[Bar(y=[1, 2])]), key="q")),
            self.project.log_artifact(TableArtifact("t", df=pandas.DataFrame({"a": [1]}))),
            self.project.log_artifact(mlrun.artifacts.Artifact("c", body="<html/>", format="html", viewer="chart")),
        ]
        if self.documents:
            logged.append(self.project.log_document("d", local_path=self.write("d.txt", "of words"), upload=True))
        for artifact in logged:
            with self.subTest(kind=artifact.kind):
                read = self.project.get_artifact(artifact.metadata.key)
                self.assertEqual(read.kind, artifact.kind)
                self.assertEqual(read.spec.target_path, artifact.spec.target_path)
                self.assertTrue(read.to_dataitem().get())
                path = pathlib.Path(artifact.spec.target_path)
                self.assertTrue(path.exists())
                self.db.del_artifact(
                    artifact.spec.db_key,
                    project=self.project_name,
                    tree=artifact.metadata.tree,
                    deletion_strategy=STRATEGIES.data_force,
                )
                self.assertFalse(path.exists())
            self.assertEqual(self.keys(name=artifact.spec.db_key), [])

    def test_a_chart_of_the_runtime_is_read_by_the_sdk(self):
        run = self.cli_json("run", self.write("lines.py", CODE), "--handler", "chart", "--name", "lines")
        (lines,) = self.db.list_artifacts(project=self.project_name, tree=run["metadata"]["uid"]).to_objects()
        self.assertEqual((lines.kind, lines.spec.viewer, lines.metadata.key), ("plot", "chart", "lines"))
        self.assertIn(b"Lines", lines.to_dataitem().get())
