"""Data items and artifacts in other stores, through the data channel."""

from __future__ import annotations

import hashlib

from tests.host import WorkerCase
from tests.store import Store

CSV = b"a,b\n1,2\n"
DIGEST = "sha256:" + hashlib.sha256(CSV).hexdigest()


class ChannelTest(WorkerCase):
    def setUp(self):
        super().setUp()
        self.store = Store(self)
        self.store.objects["s3://b/d/x.csv"] = CSV

    def value(self, code, inputs=None, **run):
        """Return what a handler returns, and what it emitted."""
        spec = {"inputs": inputs or {}, "output_path": "s3://b/out"}
        answer, emitted, host = self.run_code(
            code, run={"metadata": {"name": "r", "uid": "u1", "project": "p"}, "spec": spec},
            start={"env": dict(self.store.env, **run)},
        )  # fmt: skip
        self.assertEqual(answer["state"], "completed", "%r\n%s" % (answer, host.log()))
        results = [record["results"] for record in emitted if record["t"] == "update" and "results" in record]
        return results[-1]["return"] if results else None, emitted

    def failure(self, statement, inputs=None):
        spec = {"inputs": inputs or {}, "output_path": "s3://b/out"}
        answer, emitted, _ = self.run_code(
            "def handler(context):\n    %s\n" % statement, run={"metadata": {"name": "r", "uid": "u1"}, "spec": spec},
            start={"env": self.store.env},
        )  # fmt: skip
        self.assertEqual([record for record in emitted if record["t"] == "artifact"], [])
        return answer["failure"]["message"]

    def run_code(self, code, parameters=None, handler="handler", run=None, start=None):
        host = self.loaded(code, handler, start=start)
        answer, emitted = self.call(host, {"run": run})
        return answer, emitted, host

    def test_artifacts_of_the_project_and_of_the_run(self):
        for uri in ("store://artifacts/p/other", "store://artifacts/p/mine#2:best@t^d"):
            self.store.artifacts[uri] = {
                "kind": "artifact",
                "metadata": {"key": uri[-5:]},
                "spec": {"target_path": "/x"},
            }
        code = """
            import millrace
            def handler(context):
                made = millrace.Artifact("mine")
                made.inline = "text"
                context.log_artifact(made)
                context.log_artifact("hidden", body="x", is_inline=True, db_key=False)
                found = [context.get_artifact("mine") is made, context.get_artifact("other").key, made.inline, made.is_dir]
                found.append(context.get_artifact("mine", tag="best", iter=2, tree="t", uid="d").key)
                return [found, context.artifact_uris, context.host]
            """
        found, _ = self.value(code)
        self.assertEqual(
            found, [[True, "other", "text", False, "t@t^d"], {"mine": "store://artifacts/p/r_mine@u1"}, ""]
        )

    def test_reading(self):
        found, emitted = self.value(
            """
            def handler(context, x):
                with x.open() as file:
                    line = file.readline().decode(); file.seek(-2, 2); end = file.read().decode(); file.seek(0); again = file.read(1).decode()
                with x.open('r') as file: text = file.read()
                stat = x.stat()
                return [x.kind, x.suffix, x.get(encoding='utf8'), x.get(2, 3).decode(), x.get(5, 100).decode(), x.get(0).decode(),
                        line, end, again, text, stat.size, stat.modified, x.exists(),
                        context.get_dataitem('s3://b/no').exists(), context.get_dataitem('s3://b/d').listdir(),
                        open(x.local()).read(), str(x)]
            """,
            {"x": "s3://b/d/x.csv"},
        )
        text = CSV.decode()
        self.assertEqual(
            found,
            ["s3", ".csv", text, "\n1", "", "", "a,b\n", "2\n", "a", text, 8, 60.0, True, False, ["x.csv"], text, "s3://b/d/x.csv"],
        )  # fmt: skip
        seen = [record for record in emitted if record["t"] == "provenance"]
        entry = {"url": "s3://b/d/x.csv", "size": 8, "digest": DIGEST}
        self.assertEqual(seen, [{"t": "provenance", "iter": 0, "inputs": {"x": entry}}])

    def test_writing(self):
        self.value(
            """
            def handler(context):
                get = context.get_dataitem
                get('s3://b/put').put('text'); get('s3://b/gone').put(b'x'); get('s3://b/gone').delete()
                with get('gs://b/file').open('w') as file: file.write('a'); file.write('b')
                try:
                    with get('az://b/failed').open('wb') as file:
                        file.write(b'half'); raise KeyError
                except KeyError: pass
                open('local', 'w').write('from a file'); get('s3://b/up').upload('local')
            """
        )
        self.assertEqual(
            {url: data for url, data in self.store.objects.items() if "x.csv" not in url},
            {"s3://b/put": b"text", "gs://b/file": b"ab", "s3://b/up": b"from a file"},
        )

    def test_artifacts_go_where_the_run_stores_them(self):
        _, emitted = self.value(
            """
            import os
            def handler(context):
                context.log_artifact('body', body='abc', format='txt')
                open('f.bin', 'w').write('file')
                context.log_artifact('file', local_path='f.bin')
                os.makedirs('d/sub'); open('d/sub/x', 'w').write('1')
                context.log_artifact('folder', local_path='d')
                context.log_dataset('rows', [{'a': 1}])
                context.log_model('model', body=b'm', model_file='m.pkl', extra_data={'e': b'e'})
            """
        )
        below = {url[len("s3://b/out/r/0/") :]: data for url, data in self.store.objects.items() if "/out/" in url}
        spec = below.pop("model/model_spec.yaml")
        self.assertIn(b"model_file: m.pkl\n", spec)
        self.assertEqual(
            below,
            {"body.txt": b"abc", "file.bin": b"file", "folder/sub/x": b"1", "rows.csv": b"a\n1\n", "model/m.pkl": b"m", "model/e": b"e"},
        )  # fmt: skip
        records = {record["key"]: record for record in emitted if record["t"] == "artifact"}
        self.assertEqual(records["file"]["digest"], "sha256:" + hashlib.sha256(b"file").hexdigest())
        self.assertEqual(records["file"]["doc"]["metadata"]["hash"], hashlib.sha1(b"file").hexdigest())
        self.assertEqual(records["model"]["doc"]["spec"]["extra_data"], {"e": "s3://b/out/r/0/model/e"})

    def test_store_uris(self):
        self.store.artifacts["store://datasets/p/r_x"] = {
            "kind": "dataset", "metadata": {"key": "x", "project": "p", "tree": "t"},
            "spec": {"target_path": "s3://b/d/x.csv", "db_key": "r_x", "label_column": "b"}, "status": {"preview": [[1]]},
        }  # fmt: skip
        found, emitted = self.value(
            """
            def handler(x):
                return [x.artifact_url, x.url, x.kind, x.meta.kind, x.meta.spec.label_column, x.meta.status.preview,
                        x.get_artifact_type(), x.meta.uri, x.get().decode()]
            """,
            {"x": "store://datasets/p/r_x"},
        )
        self.assertEqual(
            found,
            ["store://datasets/p/r_x", "s3://b/d/x.csv", "s3", "dataset", "b", [[1]], "datasets",
             "store://datasets/p/r_x@t", CSV.decode()],
        )  # fmt: skip
        entry = {"url": "store://datasets/p/r_x", "target": "s3://b/d/x.csv", "size": 8, "digest": DIGEST}
        self.assertEqual(emitted[0]["inputs"], {"x": entry})

    def test_models(self):
        found, emitted = self.value(
            """
            def handler(context):
                m = context.log_model('m', body=b'model', model_file='m.pkl', metrics={'acc': 0.5}, extra_data={'e': b'more'})
                context.update_model(m, metrics={'f1': 1}, key_prefix='t-', extra_data={'n': b'new'})
                path, artifact, extra = context.get_model(context.artifact_path + '/r/0/m')
                return [open(path).read(), artifact.metrics, sorted(extra), extra['t-n'].get().decode()]
            """
        )
        self.assertEqual(found, ["model", {"acc": 0.5, "t-f1": 1}, ["e", "t-n"], "new"])
        records = [record for record in emitted if record["t"] == "artifact"]
        self.assertEqual(records[-1]["doc"]["spec"]["metrics"], {"acc": 0.5, "t-f1": 1})

    def test_data_set_records_change(self):
        found, emitted = self.value(
            """
            import millrace
            def handler(context):
                d = context.log_dataset('d', [{'a': 1}, {'a': 2}], format='csv')
                millrace.update_dataset_meta(
                    d, from_df=[{'a': 1, 'b': 'x'}], stats={'a': {'mean': 1}}, labels={'l': 2},
                    extra_data={'plot': 's3://b/p.html', 'self': d}, column_metadata={'a': {'unit': 's'}},
                )
                try:
                    millrace.update_dataset_meta(context.log_artifact('x', body='x'))
                except TypeError as error:
                    return [str(error), d.target_path]
            """
        )
        self.assertIn("takes a data set", found[0])
        first, second = [record["doc"] for record in emitted if record["t"] == "artifact" and record["key"] == "d"]
        self.assertEqual((first["spec"]["length"], second["spec"]["length"]), (2, 1))
        self.assertEqual(second["spec"]["header"][-2:], ["a", "b"])
        self.assertEqual(second["status"]["stats"], {"a": {"mean": 1}})
        self.assertEqual(second["metadata"]["labels"], {"l": "2"})
        self.assertEqual(second["spec"]["extra_data"], {"plot": "s3://b/p.html", "self": found[1]})
        self.assertEqual(second["spec"]["column_metadata"], {"a": {"unit": "s"}})
        self.assertEqual(first["spec"]["target_path"], second["spec"]["target_path"])

    def test_failures_are_sentences(self):
        cases = {
            "context.get_dataitem('s3://b/no').get()": "s3://b/no does not exist in the store",
            "context.get_dataitem('s3://b/no').open()": "s3://b/no does not exist in the store",
            "context.get_dataitem('s3://b/no').local()": "s3://b/no does not exist in the store",
            "context.get_dataitem('s3://b/broken').get()": "reading s3://b/broken broke off after 4",
            "context.get_dataitem('s3://b/forbidden').put('x')": "wrong credentials",
            "context.get_dataitem('s3://b/x').put('x', append=True)": "cannot be appended to",
            "context.get_dataitem('s3://b/x').open('a')": "cannot be opened with mode 'a'",
            "context.get_dataitem('ftp://b/x').get()": "there is no store for ftp://",
            "context.get_dataitem('http://b/x').put('x')": "can only be read",
            "context.get_dataitem('http://b/x').ls()": "http has no folders",
            "context.get_dataitem('store://p/none').get()": "there is no artifact store://p/none",
            "context.log_artifact('a', body='x', artifact_path='s3://forbidden')": "wrong credentials",
            "open('f', 'w').close(); context.log_artifact('a', local_path='f', artifact_path='s3://forbidden')": "wrong credentials",
        }  # fmt: skip
        for statement, text in cases.items():
            with self.subTest(statement):
                self.assertIn(text, self.failure(statement))

    def test_memory(self):
        found, _ = self.value(
            """
            def handler(context):
                item = context.get_dataitem('memory://a/x.txt')
                item.put('ab'); item.put(b'c', append=True)
                context.log_artifact('held', body='in memory', artifact_path='memory://out')
                held = context.get_cached_artifact('held')
                with item.open() as file: first = file.read(1).decode()
                found = [item.get().decode(), first, item.stat().size, context.get_dataitem('memory://a').ls(),
                         held.to_dataitem().get().decode(), open(item.local()).read()]
                item.delete()
                return found + [item.exists()]
            """
        )
        self.assertEqual(found, ["abc", "a", 3, ["x.txt"], "in memory", "abc", False])
