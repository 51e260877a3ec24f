"""OpenAI's routes and Azure's, as a client sees them."""
import json
import threading
import unittest

import numpy

from case import MODEL, Case, command_line, rows, service

TEXTS = ["hello world", "a", " ", "Straße, naïve, 日本語, 🙂", "x " * 900, "line\nbreak\ttab \"quoted\" \\ back"]


class Embeddings(Case):
    def test_vectors_are_those_of_the_command_line(self):
        numpy.testing.assert_array_equal(self.openai(TEXTS), command_line(TEXTS))
        self.assertEqual(self.headers["x-embedd-provider"], "local")
        self.assertEqual(self.headers["x-embedd-cost-usd"], "0")
        self.assertRegex(self.headers["x-embedd-space"], r"^local/all-MiniLM-L6-v2@[0-9a-f]+:384:")
        self.assertRegex(self.headers["server-timing"],
                         r"^parse;dur=\d+\.\d{3}, cache;dur=[\d.]+, queue;dur=[\d.]+, tokenize;dur=[\d.]+, compute;dur=[\d.]+, "
                         r"provider;dur=0\.000$")
        self.assertTrue(self.headers["x-request-id"])

    def test_shape(self):
        a = self.post("/v1/embeddings", {"input": "hello world", "model": MODEL})
        self.assertEqual(sorted(a), ["data", "model", "object", "usage"])
        self.assertEqual((a["object"], a["model"], a["usage"]), ("list", MODEL, {"prompt_tokens": 4, "total_tokens": 4}))
        self.assertEqual(sorted(a["data"][0]), ["embedding", "index", "object"])
        self.assertEqual(len(a["data"][0]["embedding"]), 384)
        self.assertEqual(self.headers["content-type"], "application/json")
        self.assertEqual(self.headers["x-embedd-tokens"], "4")

    def test_encodings_are_the_same_vector(self):
        floats = self.openai(TEXTS, encoding_format="float")
        numpy.testing.assert_array_equal(floats, self.openai(TEXTS, encoding_format="base64"))
        numpy.testing.assert_array_equal(floats, self.openai(TEXTS, encoding_format=None))

    def test_floats_are_as_short_as_can_be(self):
        raw = json.dumps(self.post("/v1/embeddings", {"input": TEXTS}), separators=(",", ":"))
        for text in json.loads(raw, parse_float=str)["data"][0]["embedding"]:
            value = numpy.float32(text)
            self.assertEqual(len(text.lstrip("-").replace(".", "").lstrip("0").split("e")[0]),
                             len(numpy.format_float_positional(value, unique=True, trim="-").lstrip("-").replace(".", "").lstrip("0")), text)

    def test_token_ids(self):
        ids = [101, 7592, 2088, 102]
        numpy.testing.assert_array_equal(self.openai(ids), self.openai("hello world"))
        numpy.testing.assert_array_equal(self.openai([ids, ids[:1] + [1037] + ids[3:]]), self.openai(["hello world", "a"]))
        self.post("/v1/embeddings", {"input": [10 ** 8]}, 400)

    def test_dimensions(self):
        whole, cut = self.openai(TEXTS), self.openai(TEXTS, dimensions=100)
        want = whole[:, :100] / numpy.linalg.norm(whole[:, :100], axis=1, keepdims=True)
        numpy.testing.assert_allclose(cut, want, atol=1e-6)
        a = self.post("/v1/embeddings", {"input": "a", "dimensions": 385}, 400)
        self.assertEqual(a["error"]["param"], "dimensions")
        self.assertIn("384", a["error"]["message"])

    def test_truncation(self):
        long = "hello world " * 400
        self.assertEqual(self.post("/v1/embeddings", {"input": long})["usage"]["total_tokens"], 256)
        for refuse in (False, "none", "NONE"):
            a = self.post("/v1/embeddings", {"input": ["a", long], "truncate": refuse}, 400)
            self.assertEqual(a["error"]["code"], "context_length_exceeded")
            self.assertEqual(a["error"]["param"], "input[1]")
            self.assertIn("256", a["error"]["message"])
        left = self.openai("start " + long, truncate="start")
        self.assertFalse(numpy.array_equal(left, self.openai("start " + long, truncate="end")))

    def test_azure(self):
        a = self.post("/openai/deployments/%s/embeddings?api-version=2024-10-21" % MODEL, {"input": "hello world"})
        numpy.testing.assert_array_equal(rows([a["data"][0]["embedding"]]), self.openai("hello world"))
        self.post("/openai/deployments/none/embeddings?api-version=2024-10-21", {"input": "a"}, 404)

    def test_models(self):
        listed = self.get("/v1/models")
        self.assertEqual(listed["object"], "list")
        ours = [m for m in listed["data"] if m["id"] == MODEL]
        self.assertEqual(len(ours), 1)
        self.assertTrue(ours[0]["default"])
        self.assertEqual(ours[0]["dimensions"], 384)
        self.assertEqual(self.get("/v1/models/" + MODEL)["id"], MODEL)
        a = self.get("/v1/models/no/such%2Fmodel", 404)
        self.assertEqual(a["error"]["code"], "model_not_found")
        a = self.post("/v1/embeddings", {"input": "a", "model": "no-such-model"}, 404)
        self.assertEqual((a["error"]["code"], a["error"]["param"]), ("model_not_found", "model"))
        self.post("/v1/embeddings", {"input": "a", "model": "/etc"}, 404)
        self.post("/v1/embeddings", {"input": "a", "model": "../models/" + MODEL}, 404)

    def test_many(self):
        texts = ["text %d" % i for i in range(2048)]
        got = self.openai(texts, encoding_format="base64")
        self.assertEqual(got.shape, (2048, 384))
        numpy.testing.assert_array_equal(got[[0, 1000, 2047]], self.openai([texts[0], texts[1000], texts[2047]]))
        a = self.post("/v1/embeddings", {"input": texts + ["one more"]}, 413)
        self.assertIn("2048", a["error"]["message"])
        self.assertIn("server.max_inputs", a["error"]["message"])

    def test_errors_have_the_envelope(self):
        for body, status in ((b"", 400), (b"{", 400), (b'{"input":"\xff"}', 400), (b'{"input":"\\ud800"}', 400),
                             (b'{"input":"a\\u0000b"}', 400), (b'{"input":NaN}', 400), (b"[" * 3000, 400),
                             (b'{"input":"a"}{"input":"b"}', 400), (b'{"input":[1e400]}', 400), (b'{"input":[[]]}', 400),
                             (b'{"input":"a","dimensions":' + b"9" * 400 + b"}", 400)):
            a = self.post("/v1/embeddings", body, status)
            self.assertEqual(sorted(a["error"]), ["code", "message", "param", "type"], body)
            self.assertTrue(a["error"]["message"])
        a = self.post("/v1/embeddings", b"{}", 415, content_type="application/xml")
        self.assertEqual(a["error"]["code"], "unsupported_media_type")
        self.assertEqual(self.get("/v1/embeddings", 405)["error"]["code"], "method_not_allowed")
        self.assertEqual(self.headers["allow"], "POST")
        self.assertIn("/v1/embeddings", self.post("/v1/embedings", {}, 404)["error"]["message"])


class Cached(Case):
    ENV = {"EMBEDD_CACHE_URL": "none"}

    def test_the_second_time(self):
        body = {"input": ["cached one", "cached two"]}
        first = self.post("/v1/embeddings", body)
        self.assertEqual(self.headers["x-embedd-cached"], "0")
        self.assertEqual(self.post("/v1/embeddings", body), first)
        self.assertEqual(self.headers["x-embedd-cached"], "2")
        self.post("/v1/embeddings", {"input": ["cached two", "new", "cached one"]})
        self.assertEqual(self.headers["x-embedd-cached"], "2")
        self.post("/v1/embeddings", body, cache_control="no-cache")
        self.assertEqual(self.headers["x-embedd-cached"], "0")
        self.post("/v1/embeddings", {"input": "not kept"}, cache_control="no-store")
        self.post("/v1/embeddings", {"input": "not kept"})
        self.assertEqual(self.headers["x-embedd-cached"], "0")

    def test_prompts_do_not_mix(self):
        self.post("/v1/embeddings", {"input": "which is it", "truncate": "end"})
        self.post("/v1/embeddings", {"input": "which is it", "truncate": "start"})
        self.assertEqual(self.headers["x-embedd-cached"], "0")


class Overload(Case):
    ENV = {"EMBEDD_MAX_CONCURRENT_REQUESTS": "1", "EMBEDDING_L1_CACHE_SIZE": "0", "EMBEDD_REQUEST_TIMEOUT_MS": "600000"}

    def test_refused_at_once(self):
        """While one request is in work, another is told to come back; then all is as before."""
        texts = ["word %d " % i * 60 for i in range(16 if service.SANITIZED else 128)]
        seen = threading.Event()
        statuses = set()

        def keep_busy():
            while not seen.is_set():
                statuses.add(self.service.post("/v1/embeddings", {"input": texts})[0])

        worker = threading.Thread(target=keep_busy)
        worker.start()
        try:
            status, headers, body = service.until(
                lambda: next((a for a in [self.service.post("/v1/embeddings", {"input": "a"})] if a[0] != 200), None), "a refusal")
        finally:
            seen.set()
            worker.join()
        self.assertEqual((status, body["error"]["code"]), (429, "overloaded"))
        self.assertGreaterEqual(int(headers["retry-after"]), 1)
        self.assertLessEqual(statuses, {200, 429})
        service.until(lambda: self.service.post("/v1/embeddings", {"input": "a"})[0] == 200, "a free worker")


class Keys(Case):
    ENV = {"EMBEDD_API_KEYS": "first-key,second-key"}

    def test_keys(self):
        body = {"input": "a"}
        a = self.post("/v1/embeddings", body, 401)
        self.assertEqual(a["error"]["code"], "missing_api_key")
        self.assertIn("Bearer", self.headers["www-authenticate"])
        a = self.post("/v1/embeddings", body, 401, authorization="Bearer third-key")
        self.assertEqual(a["error"]["code"], "invalid_api_key")
        self.assertNotIn("third-key", json.dumps(a))
        self.post("/v1/embeddings", body, authorization="Bearer second-key")
        self.post("/v1/embeddings", body, api_key="first-key")
        self.post("/v1/embeddings", body, x_api_key="first-key")
        self.assertIn("message", self.post("/v2/embed", {}, 401))
        self.assertIsInstance(self.post("/api/embed", {}, 401)["error"], str)
        self.get("/openapi.json")
        self.get("/ready")

    def test_the_log_tells_no_secrets(self):
        self.post("/v1/embeddings", {"input": "a text nobody may read"}, authorization="Bearer second-key")
        after = len(self.service.lines)
        entry = service.until(lambda: [l for l in self.service.log("request") if l.get("id") == self.headers["x-request-id"]],
                              "the request's line")[-1]
        self.assertEqual((entry["method"], entry["route"], entry["status"]), ("POST", "/v1/embeddings", 200))
        self.assertGreater(entry["in"], 20)
        self.assertGreater(entry["out"], 1000)
        self.assertGreater(entry["ms"], 0)
        everything = json.dumps(self.service.lines[:after + 10])
        self.assertNotIn("nobody may read", everything)
        self.assertNotIn("second-key", everything)


if __name__ == "__main__":
    unittest.main()
