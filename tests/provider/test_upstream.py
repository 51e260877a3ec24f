"""The mock of remote APIs itself, by a client that is not ours: what it says of itself must be so."""
import array
import base64
import http.client
import json
import time
import unittest

from driver import DIMENSION, KEY, Upstream, faults, tokens, vector

PATHS = {"openai": "/v1/embeddings", "azure": "/openai/deployments/m/embeddings?api-version=2024-10-21",
         "huggingface": "/models/m/pipeline/feature-extraction", "cohere": "/v2/embed", "ollama": "/api/embed",
         "tei": "/embed", "remote": "/embed", "embedd": "/api/v1/embeddings"}
TEXTS = ["one", "two words", "three"]
ENDLESS = ("black_hole", "stalled", "flood", "endless_head")


def body_of(kind, texts=TEXTS):
    member = {"openai": "input", "azure": "input", "ollama": "input", "huggingface": "inputs", "tei": "inputs"}
    body = {member.get(kind, "texts"): texts}
    if kind in ("openai", "cohere", "ollama", "embedd"):
        body["model"] = "m"
    if kind == "cohere":
        body["input_type"] = "search_document"
    return body


def rows_of(kind, answer):
    if kind in ("openai", "azure"):
        return [item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])]
    if kind == "cohere":
        return answer["embeddings"]["float"]
    return answer if kind in ("huggingface", "tei") else answer["embeddings"]


class Mock(unittest.TestCase):
    def setUp(self):
        self.up = Upstream(dimension=DIMENSION, served="m", key=KEY, require_key=True)
        self.addCleanup(self.up.__exit__, None)
        self.link = http.client.HTTPConnection("127.0.0.1", self.up.port, timeout=10)
        self.addCleanup(self.link.close)

    def post(self, kind, body=None, key=KEY):
        headers = {"content-type": "application/json", "authorization": "Bearer " + key, "api-key": key}
        self.link.request("POST", PATHS[kind], json.dumps(body or body_of(kind)), headers)
        answer = self.link.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def test_every_kind(self):
        for kind in PATHS:
            with self.subTest(kind=kind):
                status, _, data = self.post(kind)
                self.assertEqual(status, 200, data)
                for text, row in zip(TEXTS, rows_of(kind, json.loads(data)), strict=True):
                    self.assertEqual(array.array("f", row), array.array("f", vector("m", text, DIMENSION)))
                r = self.up.requests[-1]
                self.assertEqual((r.kind, r.texts, r.model, r.tokens, r.status), (kind, TEXTS, "m", 4, 200))
                self.assertEqual(self.post(kind, key="sk-wrong")[0], 401)
        self.assertEqual(self.up.connections, 1)
        self.assertEqual(self.up.billed_tokens, 4 * len(PATHS))
        self.assertEqual(self.up.cost_nusd, 80 * len(PATHS))

    def test_base64(self):
        data = self.post("openai", {**body_of("openai"), "encoding_format": "base64"})[2]
        raw = base64.b64decode(rows_of("openai", json.loads(data))[1])
        self.assertEqual(array.array("f", raw), array.array("f", vector("m", "two words", DIMENSION)))

    def test_strict(self):
        for change in ({"user": None}, {"stream": True}, {"dimensions": 0}, {"dimensions": 9}, {"input": []}, {"model": None}):
            with self.subTest(change=change):
                self.assertEqual(self.post("openai", {**body_of("openai"), **change})[0], 400)
        self.assertEqual(self.post("cohere", body_of("cohere", ["x"] * 97))[0], 400)
        self.assertEqual(self.post("tei", body_of("tei", ["x"] * 33))[0], 422)
        self.assertEqual(self.up.billed_tokens, 0)

    def test_vectors(self):
        v, long = vector("m", "text", 8), vector("m", "text", 64)
        self.assertAlmostEqual(sum(x * x for x in v), 1, 6)
        scale = sum(x * x for x in long[:8]) ** 0.5
        self.assertLess(max(abs(a - b / scale) for a, b in zip(v, long)), 1e-6)  # shortening is cutting and normalising
        self.assertNotEqual(v, vector("n", "text", 8))
        self.assertEqual(len({vector("m", str(i), 8) for i in range(1000)}), 1000)
        self.assertEqual([tokens(t) for t in ("", "a", "a b\nc", [1, 2])], [1, 1, 3, 2])

    def test_every_fault(self):
        """None breaks the mock, and after each it is well."""
        for name, fault in faults.names().items():
            if name in ENDLESS:
                continue
            for kind in ("openai", "tei"):
                with self.subTest(fault=name, kind=kind):
                    self.up.script([fault])
                    try:
                        self.post(kind)
                    except (http.client.HTTPException, OSError):
                        pass
                    self.link.close()
                    if kind == "tei" and self.up.failures:  # a fault of indexes says that there are none
                        self.assertIn("have no indexes", str(self.up.failures.pop()))
                    self.assertEqual(self.post(kind)[0], 200)
                    self.link.close()

    def test_client_that_leaves(self):
        self.up.always(faults.black_hole)
        self.link.timeout = 0.1
        with self.assertRaises(OSError):
            self.post("openai")
        self.link.close()
        deadline = time.monotonic() + 10
        while not self.up.requests[0].ended and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertTrue(self.up.requests[0].abandoned)

    def test_listener(self):
        self.post("openai")
        self.up.stop_listening()
        self.link.close()
        with self.assertRaises(ConnectionRefusedError):
            self.post("openai")
        self.link.close()
        self.up.start_listening()
        self.assertEqual(self.post("openai")[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
