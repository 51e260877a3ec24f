"""Cohere's and Ollama's routes."""
import unittest

import numpy

from case import MODEL, Case, rows

TEXTS = ["hello world", "The food was delicious.", "🙂 a smile"]


class Cohere(Case):
    def test_types(self):
        """int8 and the like are sentence-transformers' formulas with the range -1..1."""
        kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
        a = self.post("/v2/embed", {"model": MODEL, "input_type": "search_document", "texts": TEXTS, "embedding_types": kinds})
        self.assertEqual(list(a["embeddings"]), kinds)
        self.assertEqual(a["texts"], TEXTS)
        floats = rows(a["embeddings"]["float"])
        numpy.testing.assert_array_equal(floats, self.openai(TEXTS, input_type="document"))
        numpy.testing.assert_array_equal(floats, rows(a["embeddings"]["base64"]))
        levels = numpy.clip(numpy.floor((floats.astype(numpy.float64) + 1) * 127.5), 0, 255).astype(int)
        numpy.testing.assert_array_equal(a["embeddings"]["uint8"], levels)
        numpy.testing.assert_array_equal(a["embeddings"]["int8"], levels - 128)
        bits = numpy.packbits(floats > 0, axis=1).astype(int)
        numpy.testing.assert_array_equal(a["embeddings"]["ubinary"], bits)
        numpy.testing.assert_array_equal(a["embeddings"]["binary"], bits - 128)
        self.assertEqual(a["meta"]["billed_units"]["input_tokens"], int(self.headers["x-embedd-tokens"]))

    def test_versions(self):
        bare = self.post("/v1/embed", {"texts": TEXTS})
        numpy.testing.assert_array_equal(rows(bare["embeddings"]), self.openai(TEXTS))
        typed = self.post("/v1/embed", {"texts": TEXTS, "embedding_types": ["float"]})
        numpy.testing.assert_array_equal(rows(typed["embeddings"]["float"]), self.openai(TEXTS))
        self.assertIn("input_type", self.post("/v2/embed", {"texts": TEXTS}, 400)["message"])

    def test_options(self):
        a = self.post("/v2/embed", {"input_type": "clustering", "texts": TEXTS, "output_dimension": 64})
        numpy.testing.assert_array_equal(rows(a["embeddings"]["float"]), self.openai(TEXTS, dimensions=64))
        long = "hello world " * 400
        self.assertIn("256", self.post("/v2/embed", {"input_type": "clustering", "texts": [long], "truncate": "NONE"}, 400)["message"])
        start, end = (rows(self.post("/v2/embed", {"input_type": "clustering", "texts": ["begin " + long + "finish"], "truncate": t})
                           ["embeddings"]["float"]) for t in ("START", "END"))
        self.assertFalse(numpy.array_equal(start, end))

    def test_rerank(self):
        body = {"model": MODEL, "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1}
        a = self.post("/v1/rerank", body, 422)
        self.assertEqual((a["error"]["code"], a["error"]["param"]), ("model_cannot_rerank", "model"))
        self.assertIn(MODEL, a["error"]["message"])
        self.assertIn("model_cannot_rerank", self.post("/v2/rerank", body, 422)["message"])
        self.assertIn("documents", self.post("/v2/rerank", {"query": "q"}, 400)["message"])
        self.post("/v2/rerank", dict(body, model="no-such"), 404)


class Ollama(Case):
    def test_embed(self):
        a = self.post("/api/embed", {"model": MODEL, "input": TEXTS})
        numpy.testing.assert_array_equal(rows(a["embeddings"]), self.openai(TEXTS))
        self.assertEqual(a["model"], MODEL)
        self.assertGreater(a["total_duration"], 0)
        self.assertGreater(a["prompt_eval_count"], 3)
        one = self.post("/api/embed", {"model": MODEL + ":latest", "input": TEXTS[0], "keep_alive": -1, "options": {"num_ctx": 1}})
        numpy.testing.assert_array_equal(rows(one["embeddings"]), self.openai(TEXTS[:1]))
        self.assertEqual(self.post("/api/embed", {"model": MODEL, "input": []})["embeddings"], [])
        old = self.post("/api/embeddings", {"model": MODEL, "prompt": TEXTS[0]})
        numpy.testing.assert_array_equal(rows([old["embedding"]]), self.openai(TEXTS[:1]))

    def test_errors(self):
        self.assertIsInstance(self.post("/api/embed", {"input": "a"}, 400)["error"], str)
        self.assertIn("no-such", self.post("/api/embed", {"model": "no-such", "input": "a"}, 404)["error"])
        self.assertIn("256", self.post("/api/embed", {"model": MODEL, "input": "hello " * 500, "truncate": False}, 400)["error"])

    def test_about(self):
        self.assertRegex(self.get("/api/version")["version"], r"^\d+\.\d+\.\d+$")
        ours = [m for m in self.get("/api/tags")["models"] if m["name"] == MODEL]
        self.assertEqual(len(ours), 1)
        self.assertRegex(ours[0]["modified_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        shown = self.post("/api/show", {"model": MODEL})
        self.assertEqual(shown["model_info"]["bert.embedding_length"], 384)
        self.assertEqual(shown["capabilities"], ["embedding"])


if __name__ == "__main__":
    unittest.main()
