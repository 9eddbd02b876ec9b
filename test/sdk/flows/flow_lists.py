"""Lists with filters and pages, and deletions (29.11)."""

import mlrun
from flow import Flow

CODE = """
def train(context, n=0):
    context.set_label("parity", "even" if n % 2 == 0 else "odd")
    context.log_result("n", n)
    context.log_artifact("table", body=f"n\\n{n}\\n", local_path="table.csv", labels={"n": str(n)})
    if n == 3:
        raise ValueError("three is not wanted")
"""


class Lists(Flow):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fn = cls("test_artifacts").job("list-fn", CODE)
        fn.save(tag="v1")
        fn.save()
        cls.runs = []
        for n in range(5):
            try:
                run = fn.run(handler="train", params={"n": n}, name=f"run-{n}", watch=True)
                cls.runs.append(run.uid())
            except mlrun.runtimes.utils.RunError:
                pass
        mlrun.new_function("other", project=cls.project_name, kind="dask", image="x").save()

    def names(self, runs):
        return sorted(run["metadata"]["name"] for run in runs)

    def test_runs_by_name(self):
        self.assertEqual(self.names(self.project.list_runs(name="run-2")), ["run-2"])
        self.assertEqual(self.names(self.project.list_runs(name="~RUN-")), [f"run-{n}" for n in range(5)])
        self.assertEqual(self.names(self.project.list_runs(name="nothing")), [])

    def test_runs_by_label(self):
        self.assertEqual(self.names(self.project.list_runs(labels=["parity=even"])), ["run-0", "run-2", "run-4"])
        self.assertEqual(self.names(self.project.list_runs(labels=["parity=odd"])), ["run-1", "run-3"])
        self.assertEqual(len(self.project.list_runs(labels=["parity"])), 5)
        self.assertEqual(len(self.project.list_runs(labels=["parity=even", "parity=odd"])), 0)

    def test_runs_by_state(self):
        states = mlrun.common.runtimes.constants.RunStates
        self.assertEqual(self.names(self.project.list_runs(states=[states.error])), ["run-3"])
        self.assertEqual(len(self.project.list_runs(states=[states.completed])), 4)
        self.assertEqual(len(self.project.list_runs(states=[states.completed, states.error])), 5)

    def test_runs_by_uid(self):
        self.assertEqual(len(self.project.list_runs(uid=self.runs[:2])), 2)

    def test_runs_are_sorted_by_start_newest_first(self):
        names = [run["metadata"]["name"] for run in self.project.list_runs()]
        self.assertEqual(names, [f"run-{n}" for n in (4, 3, 2, 1, 0)])

    def test_runs_by_time(self):
        runs = self.project.list_runs()
        middle = mlrun.utils.helpers.datetime_from_iso(runs[2]["status"]["start_time"])
        self.assertEqual(len(self.project.list_runs(start_time_from=middle)), 3)
        self.assertEqual(len(self.project.list_runs(start_time_to=middle)), 3)

    if hasattr(mlrun.projects.MlrunProject, "paginated_list_runs"):

        def test_runs_page_by_page(self):
            pages, token = [], None
            first, token = self.project.paginated_list_runs(page_size=2)
            pages.append(self.names(first))
            while token:
                more, token = self.project.paginated_list_runs(page_token=token, page_size=2)
                if more:
                    pages.append(self.names(more))
            self.assertEqual(sorted(sum(pages, [])), [f"run-{n}" for n in range(5)])
            self.assertEqual([len(page) for page in pages], [2, 2, 1])

    def test_runs_as_objects(self):
        (run,) = self.project.list_runs(name="run-2").to_objects()
        self.assertEqual(run.status.results, {"n": 2})

    def test_runs_as_a_table(self):
        frame = self.project.list_runs().to_df()
        self.assertEqual(len(frame), 5)

    def test_functions(self):
        names = sorted({fn.metadata.name for fn in self.project.list_functions()})
        self.assertEqual(names, ["list-fn", "other"])
        (tagged,) = self.project.list_functions(name="list-fn", tag="v1")
        self.assertEqual(tagged.metadata.tag, "v1")
        self.assertFalse(self.project.list_functions(name="list-fn", tag="v9"))
        self.assertFalse(self.project.list_functions(name="nothing"))

    def test_artifacts(self):
        # The key of a run's artifact in the database begins with the run's name.
        self.assertEqual(len(self.project.list_artifacts("run-2_table")), 1)
        self.assertEqual(len(self.project.list_artifacts("~TABLE")), 5)
        self.assertEqual(len(self.project.list_artifacts("table")), 0)
        (two,) = self.project.list_artifacts("~table", labels=["n=2"])
        self.assertEqual(two["metadata"]["key"], "table")
        self.assertEqual(len(self.project.list_artifacts(tree=self.runs[0])), 1)
        self.assertEqual(len(self.project.list_artifacts(kind="model")), 0)

    def test_one_artifact(self):
        item = self.project.get_artifact("run-1_table")
        self.assertEqual(item.to_dataitem().get().decode(), "n\n1\n")
        self.assertEqual(item.metadata.tree, self.runs[1])


class Deletions(Flow):
    def setUp(self):
        self.fn = self.job("deletions", CODE)

    def test_a_run_and_its_log(self):
        run = self.fn.run(handler="train", params={"n": 2})
        self.db.del_run(run.uid(), self.project_name)
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.db.read_run(run.uid(), self.project_name)
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.db.get_log(run.uid(), self.project_name)

    def test_runs_by_filter(self):
        for n in (1, 2):
            self.fn.run(handler="train", params={"n": n}, name=f"many-{n}")
        self.db.del_runs(project=self.project_name, name="many-1")
        self.assertEqual(
            [run["metadata"]["name"] for run in self.db.list_runs(name="~many", project=self.project_name)],
            ["many-2"],
        )

    def test_an_artifact(self):
        run = self.fn.run(handler="train", params={"n": 4})
        item = self.project.get_artifact("deletions-train_table", tree=run.uid())
        self.project.delete_artifact(item)
        self.assertEqual(len(self.project.list_artifacts("~table", tree=run.uid())), 0)

    def test_a_project_with_everything_in_it(self):
        name = self.project_name + "-x"
        project = mlrun.get_or_create_project(name, context=str(self.folder / name))
        fn = project.set_function(self.write("x.py", CODE), name="x", kind="job", image="x", handler="train")
        run = fn.run(params={"n": 1}, local=False)
        self.db.delete_project(name, deletion_strategy="cascade")
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.db.get_project(name)
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.db.read_run(run.uid(), name)
