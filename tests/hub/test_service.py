"""A running service that fetches a model from the hub when a request names it; and the load test against a service."""
import json
import os
import subprocess
import threading
import unittest

from harness import Case, PROGRAM, model, until
from hub_server import reset_after, waits_for
from service import Service


class Pulling(Case):
    def serve(self, **env):
        s = Service(env={"EMBEDD_PULL": "true", "HF_ENDPOINT": self.hub.url, "HF_HUB_OFFLINE": None, "HF_HOME": None,
                         "HF_HUB_CACHE": self.cache, "EMBEDD_REQUEST_TIMEOUT_S": "60", **env})
        self.addCleanup(s.close)
        return s

    def ask(self, service, name, text="hello"):
        status, headers, body = service.post("/v1/embeddings", {"model": name, "input": text})
        return status, body if isinstance(body, (dict, list)) else json.loads(body)

    def test_pulled_by_the_first_request(self):
        self.hub.add("org/model", model())
        self.hub.fault("/store/", reset_after(100000), 2)
        s = self.serve()
        status, body = self.ask(s, "org/model")
        self.assertEqual(status, 200, body)
        self.assertEqual(len(body["data"]), 1)
        count = len(self.hub.requests)
        self.assertEqual(self.ask(s, "org/model", "again")[0], 200)
        self.assertEqual(len(self.hub.requests), count)
        self.assertEqual(self.unfinished(), {})

    def test_many_requests_one_pull(self):
        self.hub.add("org/model", model())
        event, answers = threading.Event(), []
        self.addCleanup(event.set)
        self.hub.fault("/store/", waits_for(event, 1000))
        s = self.serve()
        threads = [threading.Thread(target=lambda: answers.append(self.ask(s, "org/model"))) for _ in range(4)]
        for t in threads:
            t.start()
        until(lambda: 1000 in self.unfinished().values(), "the pull")
        event.set()
        for t in threads:
            t.join(60)
        self.assertEqual([status for status, _ in answers], 4 * [200], answers)
        self.assertEqual(len(self.hub.asked("", "GET", "store")), 1)

    def test_not_there(self):
        s = self.serve()
        status, body = self.ask(s, "org/none")
        self.assertEqual(status, 404, body)
        self.assertIn("there is no repository org/none", json.dumps(body))

    def test_not_asked_for(self):
        self.hub.add("org/model", model())
        s = self.serve(EMBEDD_PULL="false")
        self.assertEqual(self.ask(s, "org/model")[0], 404)
        self.assertEqual(self.hub.requests, [])


class Load(Case):
    def test_load(self):
        with Service() as s:
            p = subprocess.run([PROGRAM, "loadtest", "--warmup", "0.2", "--duration", "1", "--connections", "2", "--words", "8", "--repeat", "90",
                                "--distinct", "2", "--format", "json", s.url], stdout=subprocess.PIPE, env=self.environment(),
                               timeout=120)
            o = json.loads(p.stdout)
            self.assertEqual((p.returncode, list(o["statuses"])), (0, ["200"]))
            self.assertGreater(o["cached_texts"], 0)
            self.assertGreater(o["tokens"], o["texts"])
            for api in ("tei", "embedder", "docvector", "ollama"):
                p = subprocess.run([PROGRAM, "loadtest", "--warmup", "0", "--duration", "2", "--rate", "10", "--words", "4", "--model",
                                    "all-MiniLM-L6-v2", "--api", api, "--format", "json", s.url], stdout=subprocess.PIPE, env=self.environment(), timeout=120)
                o = json.loads(p.stdout)
                self.assertEqual((api, p.returncode, list(o["statuses"])), (api, 0, ["200"]), o)


if __name__ == "__main__":
    unittest.main()
