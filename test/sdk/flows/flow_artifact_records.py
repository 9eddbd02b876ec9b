"""Artifacts of every kind, logged, listed, read and deleted; secrets of a project."""

import os
import pathlib

import mlrun
from flow import Flow

READS = """
def main(context):
    print('token', context.get_secret('TOKEN'), context.get_secret('OWN'))
"""


class Artifacts(Flow):
    def path(self, artifact):
        return pathlib.Path(artifact.spec.target_path)

    def remove(self, artifact, strategy):
        self.db.del_artifact(
            artifact.spec.db_key,
            project=self.project_name,
            tree=artifact.metadata.tree,
            deletion_strategy=strategy,
        )

    def test_plain_artifacts_are_addressed_by_their_content(self):
        one = self.project.log_artifact("one", body="equal", format="txt")
        two = self.project.log_artifact("two", body="equal", format="txt")
        self.assertEqual(one.spec.target_path, two.spec.target_path)
        self.assertIn(one.metadata.hash, one.spec.target_path)
        self.assertEqual(mlrun.get_dataitem(one.uri).get(), b"equal")
        force = mlrun.common.schemas.artifact.ArtifactsDeletionStrategies.data_force
        self.remove(one, force)
        self.assertTrue(self.path(two).exists())
        self.remove(two, force)
        self.assertFalse(self.path(two).exists())
        self.assertEqual(len(self.project.list_artifacts("one")) + len(self.project.list_artifacts("two")), 0)

    def test_folders_tables_and_plotly(self):
        self.write("folder/a.txt", "a\n")
        folder = self.project.log_artifact(
            mlrun.artifacts.DirArtifact("folder"), target_path=str(self.folder / "folder") + "/"
        )
        self.assertEqual(self.project.get_artifact("folder").kind, "dir")
        self.assertTrue(folder.spec.target_path)
        import pandas

        frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
        self.project.log_artifact(mlrun.artifacts.TableArtifact("table", df=frame))
        self.assertEqual(self.project.get_artifact("table").kind, "table")
        kinds = {artifact.kind for artifact in self.project.list_artifacts().to_objects()}
        self.assertLessEqual({"dir", "table"}, kinds)
        self.project.log_artifact(mlrun.artifacts.Artifact("chart", body="<html/>", format="html"))
        self.assertEqual(self.project.get_artifact("chart").to_dataitem().get(), b"<html/>")

    def test_datasets(self):
        import pandas

        frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
        for form in ("csv", "parquet"):
            self.project.log_dataset(form + "-data", df=frame, format=form)
            found = self.project.get_artifact(form + "-data")
            self.assertEqual(found.spec.length, 3)
            self.assertEqual(list(found.to_dataitem().as_df()["a"]), [1, 2, 3])
        names = {artifact.metadata.key for artifact in self.project.list_artifacts(kind="dataset").to_objects()}
        self.assertEqual(names, {"csv-data", "parquet-data"})

    def test_models(self):
        model = self.project.log_model(
            "net",
            body=b"weights",
            model_file="net.bin",
            metrics={"acc": 0.5},
            framework="own",
            extra_data={"note": b"text"},
        )
        (found,) = self.project.list_models("net")
        self.assertEqual(found.spec.metrics, {"acc": 0.5})
        local, spec, extra = mlrun.artifacts.get_model(model.uri, ".bin")
        self.assertEqual(pathlib.Path(local).read_bytes(), b"weights")
        self.assertEqual(extra["note"].get(), b"text")
        strategies = mlrun.common.schemas.artifact.ArtifactsDeletionStrategies
        self.remove(model, strategies.data_force)
        self.assertEqual(len(self.project.list_models("net")), 0)
        self.assertFalse(pathlib.Path(local).exists())

    def test_prompts_and_their_model(self):
        if not hasattr(self.project, "log_llm_prompt"):
            return  # this release has no prompts
        model = self.project.log_model("asked", body=b"weights", model_file="asked.bin", tag="v1")
        template = [{"role": "user", "content": "What is {this}?"}]
        prompt = self.project.log_llm_prompt(
            "ask",
            prompt_template=template,
            prompt_legend={"this": {"field": "word", "description": "a word"}},
            model_artifact=model,
            invocation_config={"temperature": 0.5},
        )
        self.assertEqual(prompt.spec.parent_uri, model.uri)
        for parent in (model, "asked:v1", model.uri):
            (found,) = self.project.list_llm_prompts(model=parent, tag="latest")
            self.assertEqual((found.metadata.key, found.spec.parent_uri), ("ask", model.uri))
        self.assertEqual(self.project.list_llm_prompts(model="asked:v2"), [])
        self.assertEqual((found.read_prompt(), found.model_artifact.metadata.key), (template, "asked"))
        self.assertIn("word", str(found.spec.prompt_legend))
        again = self.project.get_artifact("asked")
        self.assertTrue(again.spec.has_children)
        again.labels["seen"] = "yes"
        self.db.store_artifact(
            again.db_key, again.to_dict(), project=self.project_name, tree=again.tree, iter=again.iter, tag="v1"
        )
        (stored,) = self.project.list_models("asked", tag="v1")
        self.assertEqual((stored.uid, stored.labels["seen"]), (model.uid or again.uid, "yes"))
        category = mlrun.common.schemas.ArtifactCategories.llm_prompt
        prompts = self.db.list_artifacts(project=self.project_name, category=category, tag="latest").to_objects()
        self.assertEqual([artifact.uri for artifact in prompts], [found.uri])
        self.assertTrue(found.uri.startswith("store://llm-prompts/"), found.uri)
        self.assertTrue(mlrun.get_dataitem(found.uri).get())

    def test_code_is_kept(self):
        if not hasattr(self.project, "log_code_file"):
            return  # this release keeps no code as artifacts
        path = self.write("kept.py", "def handler():\n    return 1\n")
        self.project.log_code_file("kept", local_path=path, requirements=["six"])
        found = self.project.get_artifact("kept")
        self.assertEqual((found.kind, found.spec.language, found.spec.requirements), ("code", "python", ["six"]))
        self.assertEqual(found.to_dataitem().get(), pathlib.Path(path).read_bytes())

    def test_versions_and_tags(self):
        first = self.project.log_artifact("versioned", body="1", format="txt", tag="v1")
        self.project.log_artifact("versioned", body="2", format="txt", tag="v2")
        self.assertEqual(self.project.get_artifact("versioned", tag="v1").to_dataitem().get(), b"1")
        one = self.db.read_artifact("versioned", "v1", project=self.project_name)
        self.db.tag_artifacts([one], self.project_name, "best")
        self.assertIn("best", self.db.list_artifact_tags(self.project_name))
        self.assertEqual(self.project.get_artifact("versioned", tag="best").metadata.tree, first.metadata.tree)

    def test_project_secrets_reach_the_runs_that_name_them(self):
        self.project.set_secrets({"TOKEN": "hidden-in-plain-sight"})
        self.assertEqual(self.db.list_project_secret_keys(self.project_name, "kubernetes").secret_keys, ["TOKEN"])
        fn = self.job("reads", READS)
        task = mlrun.new_task(handler="main").with_secrets("kubernetes", ["TOKEN"])
        task = task.with_secrets("inline", {"OWN": "brought-along"})
        run = fn.run(task, watch=False)
        run.wait_for_completion(show_logs=False)
        _, log = self.db.get_log(run.uid(), self.project_name)
        self.assertIn("token ********************* *************", log.decode())
        self.assertNotIn("brought-along", str(self.db.read_run(run.uid(), self.project_name)))
        bare = self.job("bare", READS).run(handler="main", watch=False)
        bare.wait_for_completion(show_logs=False)
        _, log = self.db.get_log(bare.uid(), self.project_name)
        self.assertIn("token None None", log.decode())
        self.db.delete_project_secrets(self.project_name, "kubernetes", ["TOKEN"])
        self.assertEqual(self.db.list_project_secret_keys(self.project_name, "kubernetes").secret_keys, [])
        self.assertNotIn("TOKEN", os.environ)
