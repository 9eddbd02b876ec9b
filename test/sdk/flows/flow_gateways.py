"""API gateways, and what is refused of real-time functions."""

import mlrun
import requests
from flow import Flow
from mlrun.runtimes.nuclio.api_gateway import APIGateway, APIGatewayMetadata, APIGatewaySpec

HANDLER = """
def handler(context, event):
    return "x"
"""


class Gateways(Flow):
    def function(self, name):
        return mlrun.code_to_function(
            name,
            project=self.project_name,
            filename=self.write(name + ".py", HANDLER),
            kind="nuclio",
            image="mlrun/mlrun",
        )

    def gateway(self, name, functions, **spec):
        spec = APIGatewaySpec(functions=functions, project=self.project_name, **spec)
        return APIGateway(APIGatewayMetadata(name=name), spec)

    def test_life(self):
        fn = self.function("scorer")
        gateway = self.gateway("front", [fn])
        gateway.with_basic_auth("me", "a pass word")
        stored = self.project.store_api_gateway(gateway)
        self.assertEqual(stored.status.state, "ready")
        self.assertTrue(stored.invoke_url.startswith("http://127.0.0.1:"), stored.invoke_url)
        self.assertEqual(stored.spec.functions, [f"{self.project_name}/scorer"])

        # Nothing is deployed: who may come in is told so, nobody else.
        answer = stored.invoke(credentials=("me", "a pass word"), path="/x")
        self.assertEqual(answer.status_code, 404, answer.text)
        self.assertIn(f"no function scorer is deployed in project {self.project_name}", answer.text)
        self.assertEqual(stored.invoke(credentials=("me", "wrong")).status_code, 401)
        self.assertEqual(requests.get(stored.invoke_url).status_code, 401)

        read = self.project.get_api_gateway("front")
        self.assertEqual(read.spec.authentication.authentication_mode, "basicAuth")
        raw = self.db.api_call("GET", f"projects/{self.project_name}/api-gateways/front").text
        self.assertNotIn("a pass word", raw)
        self.assertEqual([one.name for one in self.project.list_api_gateways()], ["front"])

        url = stored.invoke_url
        self.db.delete_api_gateway("front", self.project_name)
        self.assertEqual(self.project.list_api_gateways(), [])
        with self.assertRaises(requests.ConnectionError):
            requests.get(url)
        with self.assertRaises(mlrun.errors.MLRunNotFoundError):
            self.db.get_api_gateway("front", self.project_name)

    def test_canary(self):
        functions = [self.function("one"), self.function("two")]
        stored = self.project.store_api_gateway(self.gateway("split", functions, canary=[20, 80]))
        self.addCleanup(self.db.delete_api_gateway, "split", self.project_name)
        self.assertEqual(self.project.get_api_gateway("split").spec.canary, [20, 80])
        told = {requests.get(stored.invoke_url).text for _ in range(60)}
        self.assertEqual(len(told), 2, told)

    def test_refusals(self):
        kafka = self.function("reader")
        kafka.add_trigger("topic", {"kind": "kafka-cluster", "attributes": {}})
        graph = mlrun.new_function("graph", project=self.project_name, kind="serving", image="mlrun/mlrun")
        graph.set_topology("router")
        for fn, part in ((kafka, "http and cron"), (graph, "mock=True")):
            with self.assertRaises(Exception) as caught:
                self.db.api_call(
                    "POST",
                    f"projects/{self.project_name}/nuclio/{fn.metadata.name}/deploy",
                    json={"function": fn.to_dict()},
                )
            self.assertIn(part, str(caught.exception))
            with self.assertRaises(mlrun.errors.MLRunNotFoundError):
                self.db.get_function(fn.metadata.name, self.project_name)
