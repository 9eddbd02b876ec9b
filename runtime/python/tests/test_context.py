"""The context: what it says, what it records, and artifacts."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import shutil
import ssl
import subprocess
import threading
import unittest

from tests.host import WorkerCase


class ContextTest(WorkerCase):
    RUN = {
        "metadata": {"name": "train", "uid": "u1", "project": "demo", "labels": {"owner": "ann"}, "annotations": {"a": "b"}},
        "spec": {"parameters": {"lr": 0.1}, "inputs": {"d": "x.csv"}, "output_path": "/out", "input_path": "/in",
                 "secret_sources": [{"kind": "inline", "source": {"TOKEN": "t1"}}]},
    }  # fmt: skip

    def test_properties(self):
        found = self.results(
            """
            def handler(context):
                c = context
                c.parameters['lr'] = 5
                return [c.uid, c.name, c.tag, c.state, c.iteration, c.project, c.parameters, c.inputs, c.artifact_path,
                        c.in_path, c.out_path, c.labels, c.annotations, c.results, c.artifacts, c.node_selector,
                        c.get_input('d').url, c.get_secret('TOKEN'), c.get_secret('HOME_'), c.artifact_subpath('a', 'b'),
                        c.to_dict()['metadata']['name'], '"name":"train"' in c.to_json(), 'name' in c.to_yaml()]
            """,
            run=self.RUN,
        )
        expected = [
            "u1", "train", "u1", "running", 0, "demo", {"lr": 0.1}, {"d": "x.csv"}, "/out", "/in", "/out",
            {"owner": "ann"}, {"a": "b"}, {}, [], {}, "/in/x.csv", "t1", None, "/out/a/b", "train", True, True,
        ]  # fmt: skip
        self.assertEqual(found["return"], expected)

    def test_emissions(self):
        answer, emitted, _ = self.run_code(
            """
            def handler(context):
                context.log_result('acc', 0.5)
                context.log_results({'a': 1, 'b': [1, {'c': (1, 2)}]})
                context.set_label('k', 5)
                context.set_label('k', 6, replace=False)
                context.set_annotation('n', 'x')
                context.get_param('new', 3)
                context.get_param('lr', 3)
                context.get_input('other', 'o.csv')
                context.commit('a message')
            """,
            run=self.RUN,
        )
        self.assertEqual(answer, {"state": "completed"})
        self.assertEqual(
            emitted,
            [
                {"t": "update", "iter": 0, "results": {"acc": 0.5}},
                {"t": "update", "iter": 0, "results": {"a": 1, "b": [1, {"c": "(1, 2)"}]}},
                {"t": "update", "iter": 0, "labels": {"k": "5"}},
                {"t": "update", "iter": 0, "annotations": {"n": "x"}},
                {"t": "update", "iter": 0, "parameters": {"new": 3}},
                {"t": "update", "iter": 0, "inputs": {"other": "o.csv"}},
                {"t": "update", "iter": 0, "annotations": {"message": "a message"}},
            ],
        )

    def test_casting(self):
        found = self.results(
            """
            import datetime
            class Int(int): pass
            class Array:
                __module__ = 'numpy'
                def __init__(self, value): self.value = value
                size = property(lambda self: len(self.value) if isinstance(self.value, list) else 1)
                def tolist(self): return self.value
                def __str__(self): return 'big array'
            def handler(context):
                return [None, (1, 2), b'x', True, 1.5, Int(3), {1: None}, datetime.date(2024, 1, 2), float('nan'),
                        Array([1, 2]), Array(2.5), Array([0] * 10001), {'s': {1}}]
            """
        )["return"]
        self.assertNotEqual(found.pop(8), found)
        expected = [
            None,
            "(1, 2)",
            "b'x'",
            True,
            1.5,
            3,
            {"1": None},
            "2024-01-02",
            [1, 2],
            2.5,
            "big array",
            {"s": "{1}"},
        ]
        self.assertEqual(found, expected)

    def test_falsy_returns_are_recorded(self):
        for value, stored in (("0", 0), ("False", False), ("''", ""), ("[]", []), ("{}", {})):
            self.assertEqual(self.results("def handler():\n    return %s\n" % value), {"return": stored})
        self.assertEqual(self.results("def handler():\n    return None\n"), {})

    def test_returns_hints(self):
        cases = [
            ("1, 'b'", ["x", "y"], {"x": 1, "y": "b"}),
            ("1, 2, 3", ["x", None], {"x": 1}),
            ("[1, 2]", ["x : result"], {"x": [1, 2]}),
            ("{1, 1}", [{"key": "x"}], {"x": [1]}),
            ("[5, 6]", ["*x"], {"x0": 5, "x1": 6}),
            ("[]", ["*x"], {}),
            ("{'a': 1}", ["**x_"], {"x_a": 1}),
            ("None", ["x"], {"x": None}),
        ]
        for value, returns, expected in cases:
            with self.subTest(value):
                code = "def handler():\n    return %s\n" % value
                self.assertEqual(self.results(code, run={"spec": {"returns": returns}}), expected)
        for value, hint in (("1", ":"), ("1", "x : "), ("1", {"artifact_type": "file"}), ("1", "*")):
            answer, _, _ = self.run_code("def handler():\n    return %s\n" % value, run={"spec": {"returns": [hint]}})
            self.assertEqual(answer["failure"]["type"], "UserError")

    def test_set_state(self):
        cases = {
            "context.set_state(error='broken')": ("error", "broken"),
            "context.set_state(error=ValueError('v'))": ("error", "v"),
            "context.set_state(error='')": ("error", ""),
            "context.set_state('error')": ("error", "the code set the state to error"),
            "context.set_state('aborted')": ("aborted", None),
            "context.set_state('completed')": ("completed", None),
            "context.set_state(error='e'); context.set_state('completed')": ("error", "e"),
        }
        for statement, (state, message) in cases.items():
            with self.subTest(statement):
                answer, _, _ = self.run_code("def handler(context):\n    %s\n" % statement)
                self.assertEqual(answer["state"], state)
                if message:
                    self.assertEqual(answer["failure"]["message"], message)

    def test_children(self):
        answer, emitted, host = self.run_code(
            """
            def handler(context):
                best = None
                for lr in (1, 2):
                    with context.get_child_context(lr=lr) as child:
                        child.log_result('acc', lr * 10)
                        if lr == 2: child.mark_as_best()
                try:
                    with context.get_child_context(with_parent_params=True, lr=3) as child:
                        raise ValueError('third')
                except ValueError: pass
            """,
            run={"metadata": {"uid": "u"}, "spec": {"parameters": {"p": 0}}},
        )
        self.assertEqual(answer["state"], "completed", host.log())
        best = {"acc": 20, "best_iteration": 2}
        header = ["state", "iter", "param.lr", "param.p", "output.acc"]
        rows = [["completed", 1, 1, None, 10], ["completed", 2, 2, None, 20], ["error", 3, 3, 0, None]]
        self.assertEqual(
            emitted,
            [
                {"t": "child", "iter": 1, "parameters": {"lr": 1}, "state": "running"},
                {"t": "update", "iter": 1, "results": {"acc": 10}},
                {"t": "child", "iter": 1, "state": "completed"},
                {"t": "child", "iter": 2, "parameters": {"lr": 2}, "state": "running"},
                {"t": "update", "iter": 2, "results": {"acc": 20}},
                {"t": "update", "iter": 0, "results": best},
                {"t": "child", "iter": 2, "state": "completed"},
                {"t": "child", "iter": 3, "parameters": {"p": 0, "lr": 3}, "state": "running"},
                {"t": "child", "iter": 3, "state": "error", "error": "third"},
                {"t": "iterations", "table": [header, *rows], "best": 2},
            ],
        )

    def test_update_child_iterations(self):
        _, emitted, _ = self.run_code(
            """
            def handler(context):
                children = [context.get_child_context(x=x) for x in (1, 2)]
                for child in children: child.log_result('y', child.get_param('x'))
                context.update_child_iterations(best_run=1, commit_children=True)
            """
        )
        self.assertEqual(emitted[-1]["best"], 1)
        self.assertEqual(emitted[-1]["table"][1:], [["completed", 1, 1, 1], ["completed", 2, 2, 2]])

    def test_iterations_share_the_loaded_run(self):
        host = self.loaded(
            "def handler(context, a, b=0):\n    return [context.uid, a, b]\n",
            run={"metadata": {"uid": "u"}, "spec": {"parameters": {"a": 1}}},
        )
        _, emitted = self.call(host, {"iter": 3, "parameters": {"b": 2}})
        self.assertEqual(emitted[-1]["results"]["return"], ["u-3", 1, 2])

    def test_logger(self):
        _, _, host = self.run_code(
            """
            def handler(context):
                context.logger.info('message', key=1, other='ü')
                context.logger.debug('hidden')
                context.log_level = 'debug'
                context.logger.debug('shown %d', 5)
                context.logger.error('bad', value=object)
            """
        )
        lines = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME", line) for line in host.log().splitlines()]
        self.assertEqual(
            lines,
            [
                '> TIME [info] message: {"key":1,"other":"ü"}',
                "> TIME [debug] shown 5",
                '> TIME [error] bad: {"value":"<class \'object\'>"}',
            ],
        )

    def test_outside_of_a_run(self):
        found = self.results(
            "import millrace\nc = millrace.get_context('mine')\nc.log_result('x', 1)\nN = c.name\ndef handler(context):\n    return N\n"
        )
        self.assertEqual(found, {"return": "mine"})


class ArtifactTest(WorkerCase):
    def log(self, statement, run=None, prepare=""):
        document = {
            "metadata": {"name": "train", "uid": "u1", "project": "demo", "labels": {"owner": "ann"}},
            "spec": {"output_path": self.folder + "/out", "inputs": {"d": "/x.csv"}},
        }
        code = "def handler(context):\n    %s\n    a = %s\n    return [a.key, a.target_path, a.uri]\n" % (
            prepare or "pass",
            statement,
        )
        answer, emitted, host = self.run_code(code, run=dict(document, **(run or {})))
        documents = [record["doc"] for record in emitted if record["t"] == "artifact"]
        return answer, documents, emitted, host

    def test_body(self):
        answer, documents, emitted, host = self.log(
            "context.log_artifact('report', body='<b>ü</b>', format='html', tag='v1', labels={'k': 1})"
        )
        self.assertEqual(answer["state"], "completed", host.log())
        target = self.folder + "/out/train/0/report.html"
        data = "<b>ü</b>".encode()
        with open(target, "rb") as file:
            self.assertEqual(file.read(), data)
        document = documents[0]
        created = document["metadata"].pop("created")
        self.assertEqual(document["metadata"].pop("updated"), created)
        self.assertRegex(created, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00$")
        self.assertEqual(
            document,
            {
                "kind": "artifact",
                "project": "demo",
                "metadata": {
                    "key": "report", "project": "demo", "iter": 0, "tree": "u1", "tag": "v1", "labels": {"k": "1"},
                    "hash": hashlib.sha1(data).hexdigest(),
                },
                "spec": {
                    "target_path": target, "db_key": "train_report", "size": len(data), "viewer": "web-app", "format": "html", "license": "",
                    "producer": {"name": "train", "kind": "run", "uri": "demo/u1", "owner": "ann"},
                    "sources": [{"name": "d", "path": "/x.csv"}],
                },
                "status": {"state": "created"},
            },
        )  # fmt: skip
        self.assertEqual(emitted[-1]["results"]["return"][2], "store://artifacts/demo/train_report:v1@u1")

    def test_files_and_paths(self):
        source = self.write("model-1.5.pkl", "data")
        out = self.folder + "/out"
        cases = [
            ("local_path=%r" % source, out + "/train/0/k.5.pkl", True),
            ("local_path=%r, artifact_path='+/sub'" % source, out + "/sub/train/0/k.5.pkl", True),
            ("local_path=%r, artifact_path=%r" % (source, self.folder + "/{{run.uid}}/{{project}}"), self.folder + "/u1/demo/train/0/k.5.pkl", True),
            ("local_path=%r, upload=False" % source, "", False),
            ("local_path=%r, target_path=%r" % (source, source), source, True),
            ("local_path=%r, target_path=%r, upload=True" % (source, self.folder + "/t/x.bin"), self.folder + "/t/x.bin", True),
            ("local_path='s3://b/x.csv'", "s3://b/x.csv", False),
            ("body=b'data'", out + "/train/0/k", True),
            ("body='data', is_inline=True", "", False),
            ("body=b''", out + "/train/0/k", True),
        ]  # fmt: skip
        for arguments, target, exists in cases:
            with self.subTest(arguments):
                answer, documents, _, host = self.log("context.log_artifact('k', %s)" % arguments)
                self.assertEqual(answer["state"], "completed", host.log())
                self.assertEqual(documents[0]["spec"]["target_path"], target)
                if target:
                    self.assertEqual(os.path.isfile(target), exists)
                if exists:
                    self.assertEqual(documents[0]["spec"]["size"], 0 if "b''" in arguments else 4)

    def test_pages_are_shown_as_pages(self):
        page = self.write("page.html", "<p>")
        for arguments in ("body='<p>', format='html'", "local_path=%r" % page):
            _, documents, _, _ = self.log("context.log_artifact('k', %s)" % arguments)
            self.assertEqual(documents[0]["spec"]["viewer"], "web-app", arguments)

    def test_folder(self):
        os.makedirs(self.folder + "/plots/deep")
        self.write("plots/a.txt", "1")
        self.write("plots/deep/b.txt", "22")
        _, documents, _, _ = self.log("context.log_artifact('p', local_path=%r)" % (self.folder + "/plots"))
        self.assertEqual((documents[0]["kind"], documents[0]["spec"]["size"]), ("dir", 3))
        self.assertTrue(os.path.isfile(documents[0]["spec"]["target_path"] + "deep/b.txt"))

    def test_unregistered(self):
        _, documents, _, _ = self.log("context.log_artifact('k', body='x', db_key=False)")
        self.assertEqual(documents, [])

    def test_refusals(self):
        cases = {
            "context.log_artifact('a/b', body='x')": "not valid",
            "context.log_artifact('k', body='x', tag='a b')": "not valid",
            "context.log_artifact('k', local_path='/no/such')": "does not exist",
            "context.log_artifact('k', body=5)": "text or bytes",
            "context.log_artifact('k', body='x', target_path='rel')": "relative",
            "context.log_artifact('k', body='x', artifact_path='s3://b')": "no data channel",
            "context.log_artifact('k', local_path='s3://b/k', upload=True)": "leave out upload",
            "context.log_artifact('k', body='x', colour=1)": "colour",
            "context.log_artifact(5)": "not int",
        }
        for statement, text in cases.items():
            with self.subTest(statement):
                answer, documents, _, _ = self.log(statement)
                self.assertIn(text, answer["failure"]["message"])
                self.assertEqual(documents, [])


class DataTest(WorkerCase):
    def test_local_file(self):
        self.write("d/x.csv", "a,b\n1,2\n") if os.mkdir(self.folder + "/d") is None else None
        found = self.results(
            """
            def handler(context, folder):
                item = context.get_input('x', folder + '/d/x.csv')
                same = context.get_dataitem('file://' + folder + '/d/x.csv')
                new = context.get_dataitem(folder + '/new/y.txt')
                new.put('abc'); new.put(b'd', append=True)
                with item.open() as file: first = file.readline()
                return [item.key, item.suffix, item.kind, item.get().decode(), item.get(3, 2, 'utf8'), first.decode(), same.get('utf8' and None, 4).decode(),
                        item.stat().size, context.get_dataitem(folder + '/d').listdir(), new.get(encoding='utf8'), item.local() == item.url, str(item) == item.url]
            """,
            {"folder": self.folder},
        )
        self.assertEqual(
            found["return"],
            ["x", ".csv", "file", "a,b\n1,2\n", "b\n1", "a,b\n", "1,2\n", 8, ["x.csv"], "abcd", True, True],
        )

    def test_http(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(b"hello")

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        found = self.results(
            """
            def handler(context, url):
                item = context.get_dataitem(url)
                with item.open('r') as file: text = file.read()
                return [item.get(2, 1), text, item.stat().size, item.local().endswith('.txt')]
            """,
            {"url": "http://127.0.0.1:%d/a.txt?x=1" % server.server_port},
        )
        self.assertEqual(found["return"], ["b'el'", "hello", 5, True])

    @unittest.skipUnless(shutil.which("openssl"), "no openssl makes a certificate")
    def test_https_token(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                said = (self.headers.get("Authorization") or "none").encode()
                moved = self.path == "/moved"
                self.send_response(302 if moved else 200)
                if moved:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *args):
                pass

        pem = self.folder + "/server.pem"
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        )
        subprocess.run([*command.split(), "-keyout", pem, "-out", pem + ".crt"], check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem + ".crt", pem)
        server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        code = """
            import millrace
            def handler(context, url):
                own = {"HTTPS_AUTH_TOKEN": "own"}
                items = [context.get_dataitem(url), context.get_dataitem(url, own), millrace.get_dataitem(url, own)]
                items += [context.get_dataitem(url + "moved", secrets=own)]
                return [item.get(encoding="utf-8") for item in items]
            """
        environment = {"SSL_CERT_FILE": pem + ".crt", "HTTPS_AUTH_TOKEN": "run"}
        found = self.results(code, {"url": "https://localhost:%d/" % server.server_port}, start={"env": environment})
        self.assertEqual(found["return"], ["token run", "token own", "token own", "none"])

    def test_what_the_run_does_not_have(self):
        code = """
            import mlrun
            def handler(context):
                context.set_hostname("node")
                said = [context.labels["host"], context.get_project_param("depth", 3), str(context.get_store_resource("/a.csv"))]
                for url in ("v3io://a/b", "redis://a/b", "dbfs://a/b", "hdfs://a/b", "oss://a/b", "ds://a/b"):
                    try:
                        context.get_dataitem(url).get()
                    except ValueError as error:
                        said.append(str(error).partition(";")[0])
                return said
            """
        schemes = ("v3io", "redis", "dbfs", "hdfs", "oss", "ds")
        refused = ["%s://a/b: there is no store for %s://" % (scheme, scheme) for scheme in schemes]
        self.assertEqual(self.results(code)["return"], ["node", 3, "/a.csv", *refused])

    def test_other_stores_are_refused_when_used(self):
        answer, _, _ = self.run_code("def handler(x):\n    x.get()\n", run={"spec": {"inputs": {"x": "s3://b/k"}}})
        self.assertIn("s3://b/k cannot be reached: this process has no data channel", answer["failure"]["message"])
