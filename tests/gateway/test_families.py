"""Every family's routes with a model that a provider serves: those that embed reach it, the others say that they cannot."""
import base64
import hashlib
import os
import tempfile
import unittest

import numpy

from case import Case, LOCAL, SMALL

TEXTS = ["one text", "zwei Wörter", "東京 👩‍👩‍👧", "one text"]


class Families(Case):
    """One gateway for all of them; the provider is the default one."""

    def setUp(self):
        super().setUp()
        self.g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_FALLBACK="none",
                                          EMBEDDING_ENABLE_CACHING="false"))

    def rows(self, path, body, of):
        """The vectors of an answer, whose texts came to the upstream."""
        self.up.reset_record()
        a = self.ask(self.g, body, path=path)
        self.assertEqual(self.headers["x-embedd-provider"], "openai", path)
        self.assertGreaterEqual(self.up.calls, 1, path)
        return of(a)

    def embed(self, path, member, of, texts=TEXTS, **more):
        for model in ({}, {"model": SMALL}, {"model": "openai/" + SMALL}):
            if path.startswith("/api/emb") and not path.startswith("/api/embeddings/") and not model:
                continue  # Ollama's needs a model
            body = {member: texts, **model, **more}
            with self.subTest(path=path, **model):
                wanted = texts if isinstance(texts, list) else [texts]
                self.same(self.rows(path, body, of), self.expect(SMALL, wanted))

    def test_openai(self):
        self.embed("/v1/embeddings", "input", lambda a: [d["embedding"] for d in a["data"]])
        self.up.reset_record()
        a = self.ask(self.g, {"input": TEXTS}, path="/openai/deployments/%s/embeddings?api-version=2024-10-21" % SMALL)
        self.same([d["embedding"] for d in a["data"]], self.expect(SMALL, TEXTS))
        self.assertEqual(self.up.calls, 1)

    def test_cohere(self):
        more = {"input_type": "search_document", "embedding_types": ["float"]}
        self.embed("/v2/embed", "texts", lambda a: a["embeddings"]["float"], **more)
        self.embed("/v1/embed", "texts", lambda a: a["embeddings"])
        bits = self.ask(self.g, {"texts": TEXTS, "model": SMALL, "input_type": "search_query",
                                 "embedding_types": ["ubinary", "base64"]}, path="/v2/embed")["embeddings"]
        want = self.expect(SMALL, TEXTS)
        self.assertEqual(bits["ubinary"], numpy.packbits(want > 0, axis=1).tolist())
        self.same([numpy.frombuffer(base64.b64decode(b), dtype="<f4") for b in bits["base64"]], want)

    def test_ollama(self):
        self.embed("/api/embed", "input", lambda a: a["embeddings"])
        self.embed("/api/embeddings", "prompt", lambda a: [a["embedding"]], texts="a text")
        a = self.ask(self.g, {"model": SMALL + ":latest", "input": "tagged"}, path="/api/embed")
        self.assertEqual(a["model"], SMALL + ":latest", "the name goes back as it came")
        self.same(a["embeddings"], self.expect(SMALL, ["tagged"]))

    def test_model_servers(self):
        self.embed("/embed", "inputs", lambda a: a)
        self.embed("/embed", "texts", lambda a: a["embeddings"])
        self.embed("/", "inputs", lambda a: a)
        for path in ("/models/" + SMALL, "/hf-inference/models/%s/pipeline/feature-extraction" % SMALL,
                     "/pipeline/feature-extraction/" + SMALL):
            self.same(self.rows(path, {"inputs": TEXTS}, lambda a: a), self.expect(SMALL, TEXTS))
        cosines = self.ask(self.g, {"model": SMALL, "inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}},
                           path="/similarity")
        want = self.expect(SMALL, TEXTS)
        numpy.testing.assert_allclose(cosines, want[1:] @ want[0], atol=1e-5)

    def test_embedder_and_hybrid(self):
        self.embed("/embed/text", "text", lambda a: [a["embedding"]], texts="a text")
        self.embed("/embed/query", "query", lambda a: [a["embedding"]], texts="a text")
        self.embed("/embed/batch", "texts", lambda a: a["embeddings"])
        self.embed("/api/v1/embeddings", "texts", lambda a: a["embeddings"])

    def test_what_only_a_model_that_is_here_can_do(self):
        text, many = {"inputs": "a text"}, {"inputs": ["a text"]}
        rerank = {"query": "q", "documents": ["a", "b"]}
        for path, body in (("/tokenize", text), ("/decode", {"ids": [15339, 1917]}), ("/embed_all", many),
                           ("/embed_sparse", many), ("/predict", text), ("/rerank", {"query": "q", "texts": ["a"]}),
                           ("/v2/rerank", rerank), ("/v1/rerank", rerank), ("/api/show", {})):
            for model in (SMALL, "openai/" + SMALL):
                with self.subTest(path=path, model=model):
                    status, _, a = self.g.post(path, {**body, "model": model})
                    self.assertIn(status, (400, 422, 424), a)
                    self.assertIn(SMALL, str(a))
                    self.assertIn("provider", str(a))
        status, _, a = self.g.get("/info?model=" + SMALL)
        self.assertEqual(status, 422, a)
        self.assertEqual(self.up.calls, 0)
        tokens = self.ask(self.g, {"inputs": "a text", "model": LOCAL}, path="/tokenize")
        self.assertEqual(len(tokens[0]), 4)

    def test_warming_goes_where_the_requests_will(self):
        g = self.gateway(self.openai(EMBEDDING_PROVIDER="openai", EMBEDD_FALLBACK="none"))
        for texts, more in ((["warm one", "warm two"], {}), (["warm three"], {"model": SMALL})):
            report = self.ask(g, {"texts": texts, **more}, path="/api/v1/embeddings/cache/warm")
            self.assertEqual((report["model"], report["computed"], report["failed"]), (SMALL, len(texts), 0))
        self.assertEqual(self.up.texts(), ["warm one", "warm two", "warm three"])
        a = self.ask(g, {"texts": ["warm three", "warm one", "warm two"]})
        self.assertEqual((a["provider"], self.headers["x-embedd-cached"], self.up.calls), ("openai", "3", 2))

    def test_warming_keeps_to_the_rights_of_the_key(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "keys.yaml")
        with open(path, "w") as f:
            f.write("keys:\n  - {name: narrow, sha256: %s, models: [%s], rights: admin}\n" % (hashlib.sha256(b"k").hexdigest(), LOCAL))
        os.chmod(path, 0o600)
        g = self.gateway(self.openai(EMBEDD_API_KEYS_FILE=path))
        report = self.ask(g, {"texts": ["a"], "model": SMALL}, 403, path="/api/v1/embeddings/cache/warm",
                          authorization="Bearer k")
        self.assertIn(SMALL, str(report))
        self.ask(g, {"texts": ["a"], "model": LOCAL}, path="/api/v1/embeddings/cache/warm", authorization="Bearer k")
        self.assertEqual(self.up.calls, 0)

    def test_a_provider_that_there_is_not(self):
        a = self.ask(self.g, {"input": "a", "preferred_provider": "nobody"}, 400, path="/v1/embeddings")
        self.assertEqual(a["error"]["param"], "preferred_provider")

    def test_the_local_model_by_its_name(self):
        for path, body in (("/v1/embeddings", {"input": "a"}), ("/api/embed", {"input": "a"}), ("/embed", {"inputs": "a"}),
                           ("/v1/embed", {"texts": ["a"]}), ("/embed/text", {"text": "a"})):
            with self.subTest(path=path):
                self.ask(self.g, {**body, "model": LOCAL}, path=path)
                self.assertEqual(self.headers["x-embedd-provider"], "local")
        self.assertEqual(self.up.calls, 0)


if __name__ == "__main__":
    unittest.main()
