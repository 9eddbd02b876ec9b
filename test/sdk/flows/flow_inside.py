"""Code that uses the mlrun package itself, executed by a server whose default
interpreter has it (the environment of api.md section 28)."""

from flow import Flow

CODE = """
import mlrun


def both_contexts(context, rate=0.1):
    context.log_result("ours", rate)
    inner = mlrun.get_or_create_ctx("inner")
    inner.log_result("theirs", 2 * rate)
    inner.logger.info("from the other context")


def with_pandas(context, rows=3):
    import pandas

    ctx = mlrun.get_or_create_ctx("inner")
    frame = pandas.DataFrame({"n": range(rows)})
    ctx.log_dataset("frame", df=frame, format="csv")
    ctx.log_model("model", body=b"weights", model_file="model.bin", metrics={"acc": 0.5})


def reads_the_database(context):
    db = mlrun.get_run_db()
    run = db.read_run(context.uid, context.project)
    context.log_result("state", run["status"]["state"])


def children(context, rounds=3):
    ctx = mlrun.get_or_create_ctx("inner")
    for i in range(rounds):
        with ctx.get_child_context(depth=i + 1) as child:
            child.log_result("score", 10 - abs(i - 1))
            if i == 1:
                child.mark_as_best()
        ctx.commit("after %d" % i)


def iteration(context, x=1):
    inner = mlrun.get_or_create_ctx("inner")
    context.log_result("ours", x)
    inner.log_result("theirs", 2 * x)


if __name__ == "__main__":
    ctx = mlrun.get_or_create_ctx("script")
    print("script with", ctx.get_param("rate"))
    ctx.log_result("doubled", 2 * ctx.get_param("rate"))
    ctx.log_artifact("note", body="from the script", local_path="note.txt")
"""


class Inside(Flow):
    def setUp(self):
        self.fn = self.job("inside", CODE)

    def test_both_contexts_write_into_one_run(self):
        run = self.fn.run(handler="both_contexts", params={"rate": 0.5})
        self.assertEqual(run.state(), "completed")
        self.assertEqual(run.status.results, {"ours": 0.5, "theirs": 1.0})
        self.assertEqual(len(self.project.list_runs(name=run.metadata.name)), 1)

    def test_datasets_and_models(self):
        run = self.fn.run(handler="with_pandas", params={"rows": 4})
        frame = run.artifact("frame").as_df()
        self.assertEqual(list(frame["n"]), [0, 1, 2, 3])
        (model,) = self.project.list_models(tree=run.uid())
        self.assertEqual(model.spec.metrics, {"acc": 0.5})

    def test_the_database_is_reached_from_the_run(self):
        run = self.fn.run(handler="reads_the_database")
        self.assertEqual(run.status.results, {"state": "running"})

    def iterations(self, run):
        listed = self.db.list_runs(uid=run.uid(), project=self.project_name, iter=True)
        return {r["metadata"]["iteration"]: r for r in listed if r["metadata"].get("iteration")}

    def test_children_by_the_context_of_the_package(self):
        run = self.fn.run(handler="children")
        children = self.iterations(run)
        self.assertEqual(sorted(children), [1, 2, 3])
        self.assertEqual(children[2]["spec"]["parameters"], {"depth": 2})
        self.assertEqual(children[2]["status"]["results"], {"score": 10})
        self.assertEqual(run.status.results["best_iteration"], 2)
        self.assertEqual(len(run.to_dict()["status"]["iterations"]), 4)

    def test_iterations_with_both_contexts(self):
        run = self.fn.run(
            handler="iteration", hyperparams={"x": [1, 2, 3]}, hyper_param_options={"selector": "max.ours"}
        )
        self.assertEqual(run.status.results["best_iteration"], 3)
        for x, child in self.iterations(run).items():
            self.assertEqual(child["status"]["results"], {"ours": x, "theirs": 2 * x})

    def test_a_script_without_a_handler(self):
        run = self.fn.run(params={"rate": 3})
        self.assertEqual(run.state(), "completed")
        self.assertEqual(run.status.results["doubled"], 6)
        self.assertEqual(run.artifact("note").get().decode(), "from the script")
