"""Real-time functions: deployed, asked, changed, watched and deleted by the SDK."""

import time

import mlrun
import requests
from flow import Flow
from mlrun.runtimes.nuclio.api_gateway import APIGateway, APIGatewayMetadata, APIGatewaySpec

SCORER = """
import os

count = 0


def init_context(context):
    context.user_data.greeting = os.environ.get("GREETING", "none")


def handler(context, event):
    context.logger.info_with("asked", path=event.path)
    if event.path == "/fail":
        raise ValueError("asked to fail")
    if event.path == "/greeting":
        return context.user_data.greeting
    return {"version": VERSION, "sum": sum(event.body["x"])}


VERSION = 1
"""

TRAINER = """
import pickle


def train(context, factor=2):
    context.log_model("scaler", body=pickle.dumps({"factor": factor}), model_file="scaler.pkl")
    context.log_artifact("rows", body="1,2,3", local_path="rows.csv")
"""

# It does not know where the artifacts are, only what they are called.
SCALER = """
import os
import pickle

import mlrun


def init_context(context):
    path, context.user_data.spec, _ = mlrun.artifacts.get_model(os.environ["MODEL"], suffix=".pkl")
    with open(path, "rb") as file:
        context.user_data.model = pickle.load(file)


def handler(context, event):
    rows = mlrun.get_dataitem(os.environ["ROWS"]).get(encoding="utf-8").split(",")
    return {"y": [context.user_data.model["factor"] * int(row) for row in rows], "run": context.user_data.spec.tree}
"""

WEB = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("asked for %s, two cookies" % self.path).encode()
        self.send_response(200)
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

TICKER = """
ticks = 0


def handler(context, event):
    global ticks
    if event.trigger.kind == "cron":
        ticks += 1
    return str(ticks)
"""


class Deploy(Flow):
    def function(self, name, text, **options):
        options.setdefault("kind", "nuclio")
        return mlrun.code_to_function(
            name,
            project=self.project_name,
            filename=self.write(name + ".py", text),
            image="mlrun/mlrun",
            **options,
        )

    def undeploy(self, name):
        self.addCleanup(self.cli, "delete", "deployment", f"{self.project_name}/{name}", check=False)

    def test_life(self):
        fn = self.function("scorer", SCORER)
        fn.set_env("GREETING", "hello")
        self.undeploy("scorer")
        address = fn.deploy()
        self.assertTrue(address.startswith("http://127.0.0.1:"), address)
        self.assertEqual(fn.status.state, "ready")
        self.assertEqual(fn.invoke("/", body={"x": [1, 2]}), {"version": 1, "sum": 3})
        self.assertEqual(requests.get(address + "/greeting").text, "hello")
        with self.assertRaises(RuntimeError) as caught:
            fn.invoke("/fail", method="GET")
        self.assertIn("asked to fail", str(caught.exception))

        read = self.project.get_function("scorer")
        self.assertEqual(read.status.state, "ready")
        self.assertEqual(read.status.external_invocation_urls, fn.status.external_invocation_urls)
        self.assertEqual(read.invoke("/", body={"x": [4]}), {"version": 1, "sum": 4})
        self.assertIn("asked", self.cli("logs", f"{self.project_name}/scorer"))

        again = self.function("scorer", SCORER.replace("VERSION = 1", "VERSION = 2"))
        self.assertEqual(again.deploy(), address)
        self.assertEqual(fn.invoke("/", body={"x": [1, 2]}), {"version": 2, "sum": 3})

        self.db.delete_function("scorer", self.project_name)
        for _ in range(600):
            try:
                requests.get(address, timeout=5)
            except requests.ConnectionError:
                break
            time.sleep(0.05)
        else:
            self.fail("it answers after it was deleted")
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.db.get_function("scorer", self.project_name)

    def test_model_of_a_run(self):
        run = self.job("trainer", TRAINER, handler="train").run(params={"factor": 3})
        fn = self.function("scaler", SCALER)
        fn.set_env("MODEL", run.outputs["scaler"])
        fn.set_env("ROWS", run.outputs["rows"])
        self.assertTrue(run.outputs["scaler"].startswith("store://"), run.outputs)
        self.undeploy("scaler")
        fn.deploy()
        self.assertEqual(fn.invoke("/", method="GET"), {"y": [3, 6, 9], "run": run.metadata.uid})

    def test_workers_and_cron(self):
        fn = self.function("ticker", TICKER)
        fn.with_http(workers=1, worker_timeout=5)
        fn.add_trigger("tick", mlrun.runtimes.nuclio.function.nuclio.CronTrigger("100ms"))
        self.undeploy("ticker")
        fn.deploy()
        # Each trigger has workers of its own, so that the cron's count is the cron's.
        self.assertEqual(fn.invoke("/", method="GET"), b"0")
        for _ in range(200):
            [shown] = self.db.api_call("GET", f"millrace/projects/{self.project_name}/deployments").json()[
                "deployments"
            ]
            text = self.db.api_call("GET", f"millrace/projects/{self.project_name}/deployments/ticker/metrics").text
            handled = [line for line in text.splitlines() if 'trigger_id="tick"' in line and 'result="success"' in line]
            if handled and int(handled[0].split()[-1]) >= 3:
                break
            time.sleep(0.05)
        else:
            self.fail(f"the cron does not tick: {shown} {text}")

    def test_broken(self):
        fn = self.function("broken", "import no_such_module\n\n\ndef handler(context, event):\n    return 1\n")
        self.undeploy("broken")
        with self.assertRaises(mlrun.runtimes.utils.RunError):
            fn.deploy()
        self.assertEqual(self.project.get_function("broken").status.state, "error")

    def test_keys(self):
        self.project.set_secrets({"KEYS": "the-key"})
        fn = self.function("guarded", SCORER)
        fn.with_http(workers=1, extra_attributes={"auth": {"keys": "KEYS"}, "maxRequestBodySize": 1000})
        self.undeploy("guarded")
        address = fn.deploy()
        self.assertEqual(requests.post(address, json={"x": [1]}).status_code, 401)
        answer = fn.invoke("/", body={"x": [1]}, headers={"X-API-Key": "the-key"})
        self.assertEqual(answer, {"version": 1, "sum": 1})
        large = requests.post(address, data=b"x" * 1001, headers={"Authorization": "Bearer the-key"})
        self.assertEqual(large.status_code, 413)

    def test_application(self):
        path = self.write("web.py", WEB)
        fn = self.project.set_function(name="web", kind="application", image="python:3.11")
        fn.set_internal_application_port(8099)
        fn.spec.command = "python3"
        fn.spec.args = [path, "8099"]
        self.undeploy("web")
        url = fn.deploy()
        gateways = self.project.list_api_gateways()
        for gateway in gateways:
            self.addCleanup(self.db.delete_api_gateway, gateway.name, self.project_name)
        self.assertIn(url, [gateway.invoke_url for gateway in gateways])
        self.assertEqual(fn.status.state, "ready")
        self.assertEqual(fn.status.sidecar_name, "web-sidecar")
        self.assertEqual(fn.invoke("/some/path").text, "asked for /some/path, two cookies")
        self.assertEqual(requests.get("http://" + fn.status.address + "/x").headers["Set-Cookie"], "a=1, b=2")

    def test_gateway(self):
        fn = self.function("behind", SCORER)
        self.undeploy("behind")
        fn.deploy()
        spec = APIGatewaySpec(functions=[fn], project=self.project_name)
        gateway = APIGateway(APIGatewayMetadata(name="entrance"), spec)
        gateway.with_basic_auth("me", "secret")
        stored = self.project.store_api_gateway(gateway)
        self.addCleanup(self.db.delete_api_gateway, "entrance", self.project_name)
        self.assertEqual(stored.invoke(credentials=("me", "secret"), json={"x": [5]}, method="POST").json()["sum"], 5)
        self.assertEqual(requests.get(stored.invoke_url).status_code, 401)
