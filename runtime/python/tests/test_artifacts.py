"""Artifacts of every kind, where they go, and what is refused; without any package."""

from __future__ import annotations

import csv
import hashlib
import json
import os

from tests.host import WorkerCase

HASH_MODE = {"MLRUN_ARTIFACTS__GENERATE_TARGET_PATH_FROM_ARTIFACT_HASH": "true"}
ROWS = "[{'x': 1, 'y': 0.5, 's': 'a'}, {'x': 2, 'y': None, 's': 'b'}, {'x': 3, 'y': 2.5, 's': 'a'}]"


def doc_suffix(kind):
    return ".csv" if kind == "table" else ".html"


class KindsTest(WorkerCase):
    def log(self, *statements, env=None):
        """Run statements in a handler; return (answer, artifact records by key)."""
        code = "import os\nimport millrace\nROWS = %s\ndef handler(context):\n    %s\n" % (
            ROWS,
            "\n    ".join(statements),
        )
        document = {
            "metadata": {"name": "train", "uid": "u1", "project": "demo"},
            "spec": {"output_path": self.folder + "/out", "input_path": self.folder},
        }
        host = self.loaded(code, start={"env": env or {}})
        answer, emitted = self.call(host, {"run": document})
        self.log_text = host.log()
        return answer, {record["key"]: record for record in emitted if record["t"] == "artifact"}

    def one(self, *statements, env=None):
        answer, records = self.log(*statements, env=env)
        self.assertEqual(answer["state"], "completed", self.log_text)
        (record,) = records.values()
        return record

    def read(self, path, mode="rb"):
        with open(path, mode) as file:
            return file.read()

    def version(self, path):
        """What changes when a file is written or replaced; reading it changes its time of access alone."""
        was = os.stat(path)
        return was.st_ino, was.st_size, was.st_mtime_ns, was.st_ctime_ns

    def test_content_by_hash(self):
        sha1 = hashlib.sha1(b"abc").hexdigest()
        record = self.one("context.log_artifact('a', body='abc', format='txt')", env=HASH_MODE)
        self.assertEqual(record["doc"]["spec"]["target_path"], "%s/out/%s.txt" % (self.folder, sha1))
        self.assertEqual(record["digest"], "sha256:" + hashlib.sha256(b"abc").hexdigest())
        self.assertEqual(record["size"], 3)
        before = self.version(record["doc"]["spec"]["target_path"])
        again = self.one("context.log_artifact('b', body='abc', format='txt')", env=HASH_MODE)
        self.assertEqual(self.version(again["doc"]["spec"]["target_path"]), before)
        self.write("f.txt", "abc")
        same = self.one("context.log_artifact('c', local_path=%r)" % (self.folder + "/f.txt"), env=HASH_MODE)
        self.assertEqual(same["doc"]["spec"]["target_path"], record["doc"]["spec"]["target_path"])
        self.assertEqual(os.listdir(self.folder + "/out"), [sha1 + ".txt"])

    def test_folders_by_hash(self):
        os.makedirs(self.folder + "/d/sub")
        self.write("d/sub/x.txt", "1")
        statement = "context.log_artifact('d', local_path=%r)" % (self.folder + "/d")
        first, second = self.one(statement, env=HASH_MODE), self.one(statement, env=HASH_MODE)
        target = first["doc"]["spec"]["target_path"]
        self.assertEqual(target, second["doc"]["spec"]["target_path"])
        self.assertEqual(first["doc"]["spec"]["extra_data"], {"sub/x.txt": target + "sub/x.txt"})
        self.write("d/sub/x.txt", "2")
        self.assertNotEqual(self.one(statement, env=HASH_MODE)["doc"]["spec"]["target_path"], target)

    def test_models_by_hash(self):
        doc = self.one(
            "context.log_model('m', body=b'model', model_file='m.pkl', extra_data={'e': b'more'})",
            "path, artifact, extra = context.get_model(context.get_cached_artifact('m'))",
            "assert open(path).read() == 'model' and extra['e'].get() == b'more', path",
            env=HASH_MODE,
        )["doc"]
        name = hashlib.sha1(b"model").hexdigest() + ".pkl"
        self.assertEqual((doc["spec"]["model_target_file"], doc["spec"]["target_path"]), (name, self.folder + "/out/"))
        self.assertEqual(self.read(self.folder + "/out/" + name), b"model")

    def test_data_set_of_rows(self):
        doc = self.one("context.log_dataset('d', ROWS, label_column='s', extra_data={'k': 1})")["doc"]
        self.assertEqual(doc["kind"], "dataset")
        self.assertEqual(self.read(doc["spec"]["target_path"]), b"x,y,s\n1,0.5,a\n2,,b\n3,2.5,a\n")
        fields = [("index", "integer"), ("x", "integer"), ("y", "number"), ("s", "string")]
        self.assertEqual([(field["name"], field["type"]) for field in doc["spec"]["schema"]["fields"]], fields)
        self.assertEqual(doc["spec"]["header"], ["index", "x", "y", "s"])
        self.assertEqual(
            (doc["spec"]["length"], doc["spec"]["label_column"], doc["spec"]["extra_data"]), (3, "s", {"k": 1})
        )
        self.assertEqual(doc["status"]["preview"], [[0, 1, 0.5, "a"], [1, 2, None, "b"], [2, 3, 2.5, "a"]])
        self.assertEqual(doc["status"]["header_original_length"], 4)
        stats = doc["status"]["stats"]
        self.assertEqual(stats["s"], {"count": 3, "unique": 2, "top": "a", "freq": 2})
        counts, edges = stats["x"].pop("hist")
        self.assertEqual((sum(counts), counts[0], counts[10], counts[19], edges[0], edges[20]), (3, 1, 1, 1, 1.0, 3.0))
        quartiles = {"count": 3.0, "mean": 2.0, "std": 1.0, "min": 1.0, "25%": 1.5, "50%": 2.0, "75%": 2.5, "max": 3.0}
        self.assertEqual(stats["x"], quartiles)
        self.assertNotIn("hist", stats["y"])

    def test_data_sets_in_other_forms(self):
        for statement in (
            "context.log_dataset('d', [['x', 'y'], [1, 'a'], [2, 'b']])",
            "context.log_dataset('d', [(1, 'a'), (2, 'b')], header=['x', 'y'])",
            "context.log_dataset('d', {'x': [1, 2], 'y': ['a', 'b']})",
            "context.log_dataset('d', local_path=%r)" % self.write("d.csv", "x,y\n1,a\n2,b\n"),
        ):
            with self.subTest(statement):
                doc = self.one(statement)["doc"]
                self.assertEqual(self.read(doc["spec"]["target_path"]), b"x,y\n1,a\n2,b\n")
                self.assertEqual(doc["status"]["preview"], [[0, 1, "a"], [1, 2, "b"]])

    def test_limits_of_a_description(self):
        path = self.folder + "/long.csv"
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([["n"]] + [[n] for n in range(30000)])
        status = self.one("context.log_dataset('d', local_path=%r)" % path)["doc"]
        self.assertEqual((status["spec"]["length"], len(status["status"]["preview"])), (30000, 20))
        self.assertNotIn("stats", status["status"])
        doc = self.one("context.log_dataset('d', [{'c%d' % n: n for n in range(150)}], stats=False)")["doc"]
        self.assertEqual((len(doc["spec"]["header"]), doc["status"]["header_original_length"]), (100, 151))
        self.assertNotIn("stats", doc["status"])
        answer, _ = self.log("context.log_dataset('d', [{'a': 1}] * 1000001, preview=1000001)")
        self.assertIn("more than a million values", answer["failure"]["message"])

    def test_model(self):
        os.makedirs(self.folder + "/m")
        self.write("m/model.pkl", "the model")
        self.write("m/extra.txt", "more")
        record = self.one(
            "context.log_model('m', model_file=%r, metrics={'acc': 0.5}, parameters={'p': 'a: b'}, training_set=ROWS,"
            " label_column='s', framework='sk', labels={'q': 'w'}, extra_data={'e': 'extra.txt', 'b': b'12', 'u': 's3://b/k'})"
            % (self.folder + "/m/model.pkl")
        )
        doc, base = record["doc"], self.folder + "/out/train/0/m/"
        self.assertEqual(doc["metadata"]["labels"], {"q": "w", "framework": "sk"})
        spec = doc["spec"]
        self.assertEqual((spec["target_path"], spec["model_file"], spec["size"]), (base, "model.pkl", 9))
        self.assertEqual(spec["extra_data"], {"e": base + "extra.txt", "b": base + "b", "u": "s3://b/k"})
        self.assertEqual(spec["inputs"], [{"name": "x", "value_type": "int"}, {"name": "y", "value_type": "float"}])
        self.assertEqual(spec["outputs"], [{"name": "s", "value_type": "str"}])
        self.assertEqual(sorted(spec["feature_stats"]), ["x", "y"])
        self.assertEqual(sorted(os.listdir(base)), ["b", "extra.txt", "model.pkl", "model_spec.yaml"])
        self.assertIn("  parameters:\n    p: 'a: b'\n", self.read(base + "model_spec.yaml", "r"))

    def test_remote_model(self):
        doc = self.one("context.log_model('m', model_file='s3://b/models/m.pkl')")["doc"]
        self.assertEqual((doc["spec"]["target_path"], doc["spec"]["model_file"]), ("s3://b/models/", "m.pkl"))

    def test_pages(self):
        png = "b'\\x89PNG'"
        for statement, kind, viewer, text in (
            (
                "millrace.PlotArtifact('k', body=%s, title='T')" % png,
                "plot",
                "chart",
                b"data:image/png;base64,iVBORw==",
            ),
            ("millrace.ChartArtifact('k', [[1, 2], [2, 4]], ['x', '<y>'])", "plot", "chart", b"&lt;y&gt;"),
            ("millrace.TableArtifact('k', df=ROWS, visible=True)", "table", "table", b",x,y,s\n0,1,0.5,a\n"),
            ("millrace.TableArtifact('k', 'a,b\\n', format='csv')", "table", None, b"a,b\n"),
        ):
            with self.subTest(statement):
                # With a local_path that is not there, as hub functions give: it names the suffix alone.
                for more, suffix in (("", doc_suffix(kind)), (", local_path='plots/x.txt'", ".txt")):
                    doc = self.one("context.log_artifact(%s%s)" % (statement, more))["doc"]
                    self.assertEqual((doc["kind"], doc["spec"].get("viewer")), (kind, viewer), more)
                    self.assertIn(text, self.read(doc["spec"]["target_path"]))
                    self.assertEqual(os.path.splitext(doc["spec"]["target_path"])[1], suffix)

    def test_the_document_as_text(self):
        doc = self.one(
            "made = millrace.Artifact('k', body='x', format='txt')",
            "made.labels = {'text': 'a: b'}",
            "context.log_artifact('k', body=made.to_json() + '|' + made.to_yaml())",
        )["doc"]
        text, _, yaml = self.read(doc["spec"]["target_path"], "r").partition("|")
        self.assertEqual(
            json.loads(text)["metadata"], {"key": "k", "project": "", "iter": 0, "tree": "", "labels": {"text": "a: b"}}
        )
        self.assertIn("a: b", yaml)

    def test_document(self):
        path = self.write("file (1).txt", "text")
        doc = self.one("context.log_document(local_path=%r, upload=True)" % path)["doc"]
        self.assertEqual(doc["kind"], "document")
        self.assertNotIn("/", doc["metadata"]["key"])
        self.assertEqual(doc["metadata"]["labels"], {"source": path})
        self.assertEqual(doc["spec"]["document_loader"]["src_name"], "file_path")
        self.assertEqual(self.read(doc["spec"]["target_path"]), b"text")

    def test_links_in_folders(self):
        os.makedirs(self.folder + "/d/step1")
        self.write("d/step1/w", "1")
        os.symlink("step1", self.folder + "/d/latest")
        doc = self.one("context.log_artifact('d', local_path=%r)" % (self.folder + "/d"))["doc"]
        self.assertEqual(sorted(doc["spec"]["extra_data"]), ["latest/w", "step1/w"])
        os.symlink("..", self.folder + "/d/step1/up")
        answer, records = self.log("context.log_artifact('d', local_path=%r)" % (self.folder + "/d"))
        self.assertIn("contains itself", answer["failure"]["message"])
        self.assertEqual(records, {})

    def test_nothing_is_left_of_a_failure(self):
        os.makedirs(self.folder + "/d")
        os.mkfifo(self.folder + "/d/pipe")
        for statement in (
            "context.log_artifact('d', local_path=%r)" % (self.folder + "/d"),
            "context.log_model('m', body=b'x', model_file='m', extra_data={'e': 'none.txt'})",
            "context.log_dataset('d', [{'a': 1}], format='parquet')",
        ):
            with self.subTest(statement):
                answer, records = self.log(
                    "try:", "    " + statement, "except Exception:", "    assert context.artifacts == []", "    raise"
                )
                self.assertEqual((answer["state"], records), ("error", {}))
        found = [name for _, folders, files in os.walk(self.folder + "/out") for name in folders + files]
        self.assertEqual([name for name in found if name.endswith(".part")], [])

    def test_refusals(self):
        self.write("cut.parquet", "PAR1 and then nothing")
        self.write("ragged.csv", "a\n1\n")
        cases = {
            "context.log_artifact('../up', body='x')": "is not valid",
            "context.log_artifact('k' * 300, body='x')": "300 characters",
            "context.log_artifact('k', body=b'x' * (17 << 20), is_inline=True)": "more than the 16 MiB",
            "context.log_artifact(millrace.DirArtifact('k'), local_path='/etc/hostname')": "is not a folder",
            "context.log_artifact(millrace.Artifact('k'), local_path='/etc')": "is a folder",
            "context.log_dataset('k', ROWS, label_column='z')": "has no column 'z' to be its label; its columns are x, y, s",
            "context.log_dataset('k', ROWS, format='xlsx')": "the format 'xlsx' is not known",
            "context.log_dataset('k', ROWS, format='parquet')": "add pyarrow to the function's requirements",
            "context.log_dataset('k', 5)": "not int",
            "context.log_dataset('k', [[1, 2]])": "no header",
            "context.log_dataset('k', [['a', 'b'], [1]])": "row 0 of the data set has 1 values",
            "context.log_dataset('k', {'a': [1], 'b': []})": "different lengths",
            "context.log_dataset('k', local_path=%r)" % (self.folder + "/cut.parquet"): "not a complete Parquet file",
            "context.log_dataset('k', local_path='none.csv')": "the file none.csv does not exist",
            "context.log_model('k', body=b'x')": "has no model_file",
            "context.log_model('k', model_file='none.pkl')": "the file none.pkl does not exist",
            "context.log_model('k', body=b'x', model_file='m', extra_data={'n': 5})": "is of type int; give bytes",
            "context.log_model('k', body=b'x', model_file='m', extra_data={'../n': b''})": "leaves the model's folder",
            "context.log_model('k', body=b'x', model_file='m', extra_data={'n': '../../etc/passwd'})": "leaves the model's folder",
            "context.log_model('k', body=b'x', model_file='m', extra_data={'n': 'none'})": "the file none does not exist",
            "context.log_model('k', body=b'x', model_file='m', training_set=ROWS, inputs=[{}])": "give one",
            "context.log_model('k', body=b'x', model_file='m', training_set=ROWS, label_column='z')": "no column 'z'",
            "context.log_artifact(millrace.PlotArtifact('k', body='text'))": "matplotlib figure or the bytes of a PNG",
            "millrace.PlotlyArtifact(5, 'k')": "not int",
            "context.log_artifact(millrace.ChartArtifact('k', [[1, 'a']], ['x', 'y']))": "no numbers",
            "context.log_document()": "needs a key",
            "context.update_artifact(millrace.Artifact('k', project='other'))": "belongs to the project other",
            "context.update_model('store://models/p/k')": "no data channel",
            "context.update_model(millrace.Artifact('k'))": "takes a model",
            "context.get_model(%r)" % self.folder: "has no model",
        }
        for statement, text in cases.items():
            with self.subTest(statement):
                answer, records = self.log(statement)
                self.assertEqual(answer["state"], "error", statement)
                self.assertIn(text, answer["failure"]["message"])
                self.assertNotIn("\n", answer["failure"]["message"])
                self.assertEqual(records, {})


class YamlTest(WorkerCase):
    def test_what_is_written_is_read(self):
        found = self.results(
            """
            from millrace import _yaml
            def handler():
                value = {'a': {'b': [1, 2.5, 1e20, -0.0, None, True, False, 'x', 'yes', '1', '1.5', '', ' s', 'a: b', "it's",
                                     'new\\nline', '- x', '#c', 'a #b', 'é', '\\x07', '2024-01-01', '{x}', 'a:', '1_0', '0x1F', '~',
                                     'null', [], {}, [[1, [2]], {'k': [{'z': 1, 'y': 'q'}]}], 'x' * 200, '\U0001f600']},
                         '25%': 1, 'key with: colon': 2, '1': 3, "q'": {}}
                text = _yaml.dump(value)
                again = _yaml._Reader(text).document()
                assert again == value, (text, again)
                return text
            """
        )
        self.assertIn("    - 'yes'\n", "    " + found["return"].replace("\n", "\n    "))

    def test_what_is_not_read_is_said(self):
        for text in ("a: [1, 2]", "a: |\n  b", "a: 1\n   b: 2", "a: &x 1"):
            found = self.results(
                "from millrace import _yaml\ndef handler(t):\n    try: _yaml._Reader(t).document()\n    except ValueError as e: return str(e)\n",
                {"t": text},
            )
            self.assertIn("add PyYAML", found["return"])
