"""The embedder service's routes, /embed/…."""
import unittest

import numpy

from case import MODEL, Case, command_line, rows

LONG = "hello world " * 400
TOTALS = ["cost_usd", "latency_ms", "provider", "space", "tokens"]


class Embedding(Case):
    def test_text(self):
        a = self.post("/embed/text", {"text": "hello world"})
        self.assertEqual(sorted(a), sorted(["embedding", "dimension", "model", "cached", "cost"] + TOTALS))
        numpy.testing.assert_array_equal(rows([a["embedding"]]), command_line(["hello world"]))
        self.assertEqual((a["dimension"], a["model"], a["cached"], a["cost"], a["provider"], a["tokens"], a["cost_usd"]),
                         (384, MODEL, False, 0, "local", 4, 0))
        self.assertGreater(a["latency_ms"], 0)
        self.assertEqual(self.headers["x-embedd-space"], a["space"])
        again = self.post("/embed/text", {"text": "hello world", "use_cache": None})
        self.assertTrue(again["cached"])
        self.assertEqual(again["embedding"], a["embedding"])

    def test_query(self):
        a = self.post("/embed/query", {"query": "what is risk?", "model": "sentence-transformers/" + MODEL})
        numpy.testing.assert_array_equal(rows([a["embedding"]]), command_line(["what is risk?"], "--query"))
        self.post("/embed/query", {"text": "a"}, 422)

    def test_batch(self):
        texts = ["one", "two", "one", "three"]
        a = self.post("/embed/batch", {"texts": texts, "batch_size": 100})
        self.assertEqual(sorted(a), sorted(["embeddings", "dimension", "model", "total_embeddings", "cached_count", "total_cost"]
                                           + TOTALS))
        numpy.testing.assert_array_equal(rows(a["embeddings"]), command_line(texts))
        self.assertEqual((a["total_embeddings"], a["cached_count"], a["total_cost"]), (4, 0, 0))
        b = self.post("/embed/batch", {"texts": ["two", "new", "three"]})
        self.assertEqual((b["total_embeddings"], b["cached_count"]), (3, 2))
        numpy.testing.assert_array_equal(rows(b["embeddings"]), command_line(["two", "new", "three"]))

    def test_use_cache(self):
        for _ in range(2):
            self.assertFalse(self.post("/embed/text", {"text": "not to be kept", "use_cache": False})["cached"])
        self.assertFalse(self.post("/embed/text", {"text": "not to be kept"})["cached"])
        self.assertTrue(self.post("/embed/text", {"text": "not to be kept"})["cached"])

    def test_empty(self):
        for blank in ("", "   ", "\n\t", "\u2003\u00a0"):
            self.assertIn("text", self.post("/embed/text", {"text": blank}, 400)["detail"])
            self.assertIn("query", self.post("/embed/query", {"query": blank}, 400)["detail"])
        a = self.post("/embed/batch", {"texts": ["a", "", "b", " "]}, 400)
        self.assertIn("1, 3", a["detail"])
        self.assertIsInstance(self.post("/embed/batch", {"texts": []}, 400)["detail"], str)

    def test_skip_empty(self):
        texts = ["", "a", " ", "b", "\n", "a"]
        a = self.post("/embed/batch", {"texts": texts, "skip_empty": True})
        self.assertEqual([e is None for e in a["embeddings"]], [not t.strip() for t in texts])
        numpy.testing.assert_array_equal(rows(e for e in a["embeddings"] if e), command_line(["a", "b", "a"]))
        self.assertEqual(a["total_embeddings"], 3)
        none = self.post("/embed/batch", {"texts": [" ", ""], "skip_empty": True})
        self.assertEqual((none["embeddings"], none["total_embeddings"], none["dimension"]), ([None, None], 0, 384))
        # an error names the client's index
        detail = self.post("/embed/batch", {"texts": ["", "a", " ", LONG], "skip_empty": True, "truncate": False}, 400)["detail"]
        self.assertIn("texts[3]", detail)
        self.assertIn("256", detail)

    def test_options(self):
        a = self.post("/embed/text", {"text": "hello", "dimensions": 64, "context": "analysis", "preferred_provider": "local",
                                      "category": "news", "normalize": True, "truncate": True})
        self.assertEqual((a["dimension"], len(a["embedding"])), (64, 64))
        numpy.testing.assert_array_equal(rows([a["embedding"]]), command_line(["hello"], "--dimensions", "64"))
        self.assertAlmostEqual(float(numpy.linalg.norm(a["embedding"])), 1, places=5)
        self.assertIn(":64:", a["space"])

    def test_malformed(self):
        """FastAPI's envelope: where, what, which kind."""
        for path, body, member in (
                ("/embed/text", {}, "text"), ("/embed/text", {"text": 1}, "text"), ("/embed/text", {"text": ["a"]}, "text"),
                ("/embed/text", {"text": None}, "text"), ("/embed/text", {"text": "a", "model": 5}, "model"),
                ("/embed/text", {"text": "a", "use_cache": "yes"}, "use_cache"), ("/embed/text", {"text": "a\0"}, "text"),
                ("/embed/batch", {"texts": "a"}, "texts"), ("/embed/batch", {"texts": ["a", 1]}, "texts"),
                ("/embed/batch", {"texts": ["a"], "batch_size": 0}, "batch_size"),
                ("/embed/batch", {"texts": ["a"], "batch_size": 1.5}, "batch_size"),
                ("/embed/batch", {"texts": ["a"], "batch_size": 10 ** 9}, "batch_size"),
                ("/embed/batch", {"texts": ["a"], "skip_empty": 1}, "skip_empty"),
                ("/embed/text", {"text": "a", "context": "x"}, "context"),
                ("/embed/text", {"text": "a", "dimensions": 385}, "dimensions"),
                ("/embed/text", {"text": "a", "prompt_name": "x"}, "prompt_name"),
                ("/embed/text", {"text": "a", "preferred_provider": "openai"}, "preferred_provider")):
            detail = self.post(path, body, 422)["detail"]
            self.assertEqual(len(detail), 1, body)
            self.assertEqual(detail[0]["loc"][:2], ["body", member], body)
            self.assertIn(member.split("_")[0], detail[0]["msg"])
            self.assertTrue(detail[0]["type"])
        self.assertEqual(self.post("/embed/text", {}, 422)["detail"][0]["type"], "missing")
        self.assertEqual(self.post("/embed/batch", {"texts": ["a", 1]}, 422)["detail"][0]["loc"], ["body", "texts", 1])
        for body in ("", "{", "[]", "nul", b"{\"text\":\"\xff\"}", "{\"text\":\"\\ud800\"}"):
            self.assertIn(self.post("/embed/text", body, 422)["detail"][0]["type"], ("json_invalid",))
        self.assertIn("no-such", self.post("/embed/text", {"text": "a", "model": "no-such"}, 404)["detail"])
        self.assertIsInstance(self.get("/embed/text", 405)["detail"], str)
        self.assertIsInstance(self.get("/embed/nothing", 404)["detail"], str)

    def test_too_many(self):
        self.assertIn("server.max_inputs", self.post("/embed/batch", {"texts": ["a"] * 2049}, 413)["detail"])
        self.assertEqual(len(self.post("/embed/batch", {"texts": ["a"] * 2048})["embeddings"]), 2048)


class About(Case):
    def test_models(self):
        a = self.get("/embed/models")
        self.assertEqual(a["default"], MODEL)
        by_name = {m["name"]: m for m in a["models"]}
        self.assertEqual(len(by_name), len(a["models"]))
        ours = by_name[MODEL]
        self.assertEqual((ours["provider"], ours["dimension"], ours["max_batch_size"], ours["max_input_length"],
                          ours["cost_per_1k_tokens"], ours["loaded"], ours["available"], ours["default"]),
                         ("local", 384, 32, 256, 0, True, True, True))
        large = by_name["text-embedding-3-large"]
        self.assertEqual((large["provider"], large["dimension"], large["cost_per_1k_tokens"], large["available"]),
                         ("openai", 3072, 0.00013, False))
        self.assertNotIn("recommendation", a)
        self.assertEqual(sum(m["default"] for m in a["models"]), 1)

    def test_recommendation(self):
        speed = self.get("/embed/models?goal=speed")["recommendation"]
        self.assertEqual((speed["goal"], speed["models"][0]), ("speed", MODEL))
        for goal in ("quality", "balance", "multilingual", "code"):
            r = self.get("/embed/models?goal=" + goal)["recommendation"]
            self.assertTrue(r["models"] and r["reason"])
        wrong = self.get("/embed/models?goal=cheap", 422)["detail"][0]
        self.assertEqual(wrong["loc"], ["query", "goal"])
        self.assertIn("quality", wrong["msg"])

    def test_metrics(self):
        self.assertEqual(self.post("/embed/metrics/reset", None)["status"], "success")
        before = self.get("/embed/metrics")["metrics"]
        self.assertEqual((before["total_texts"], before["cache_hit_rate"]), (0, 0))
        texts = ["m%d" % i for i in range(6)]
        self.post("/embed/batch", {"texts": texts})
        self.post("/embed/batch", {"texts": texts[:3] + ["m6"]})
        m = self.get("/embed/metrics")["metrics"]
        self.assertEqual((m["total_requests"], m["total_texts"], m["total_embeddings_generated"], m["cache_hits"],
                          m["cache_misses"], m["total_cost_usd"], m["models_loaded"]), (2, 10, 7, 3, 7, 0, 1))
        self.assertAlmostEqual(m["cache_hit_rate"], 0.3)
        self.assertGreater(m["total_tokens"], 20)
        self.assertGreater(m["p99_latency_ms"], 0)
        self.assertEqual(m["latency_window_seconds"], 300)
        self.post("/embed/metrics/reset", None)
        m = self.get("/embed/metrics")["metrics"]
        self.assertEqual([m[k] for k in ("total_embeddings_generated", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms")],
                         [0, 0, 0, 0])
        latency = self.get("/api/v1/embeddings/metrics")["latency"]
        self.assertEqual([latency[k]["p99_ms"] for k in ("embed", "queue", "compute")], [0, 0, 0])
        counted = [x for x in self.ask("GET", "/metrics").decode().splitlines() if x.startswith("embedd_embed_duration_seconds_count")]
        self.assertTrue(any(not x.endswith(" 0") for x in counted), "Prometheus' counters go on")

    def test_health(self):
        a = self.get("/embed/health")
        self.assertEqual((a["status"], a["service"], a["default_model"], a["caching_enabled"], a["models_loaded"], a["ready"]),
                         ("healthy", "embedder", MODEL, True, 1, True))


class Keys(Case):
    ENV = {"EMBEDD_API_KEYS": "secret-key"}

    def test_keys(self):
        self.assertIsInstance(self.post("/embed/text", {"text": "a"}, 401)["detail"], str)
        self.post("/embed/text", {"text": "a"}, 401, authorization="Bearer wrong")
        self.post("/embed/text", {"text": "a"}, authorization="Bearer secret-key")
        self.get("/embed/health")
        self.get("/embed/metrics", 401)
        self.get("/metrics", 401)
        self.get("/metrics", authorization="Bearer secret-key")
        self.assertEqual(self.post("/embed", {"inputs": "a"}, 401)["error_type"], "Validation")


class NoCache(Case):
    ENV = {"EMBEDDING_ENABLE_CACHING": "false"}

    def test_off(self):
        self.assertFalse(self.get("/embed/health")["caching_enabled"])
        for _ in range(2):
            self.assertFalse(self.post("/embed/text", {"text": "a"})["cached"])
        self.assertEqual(self.get("/api/v1/embeddings/cache"), {"enabled": False})
        self.assertEqual(self.ask("DELETE", "/api/v1/embeddings/cache?all=true")["removed"], 0)
        self.assertIn("cache.enabled", self.post("/api/v1/embeddings/cache/warm", {"texts": ["a"]}, 409)["detail"])


if __name__ == "__main__":
    unittest.main()
