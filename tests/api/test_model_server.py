"""DocVector's and text-embeddings-inference's routes."""
import unittest

import numpy

from case import MODEL, Case, command_line, rows

TEXTS = ["What is Deep Learning?", "naïve café 東京", "What is Deep Learning?"]
LONG = "begin " + "hello world " * 400 + "finish"


class Embed(Case):
    def test_texts(self):
        a = self.post("/embed", {"texts": TEXTS, "batch_size": 64})
        self.assertEqual(sorted(a), ["dimension", "embeddings", "model"])
        self.assertEqual((a["dimension"], a["model"]), (384, MODEL))
        numpy.testing.assert_array_equal(rows(a["embeddings"]), command_line(TEXTS))
        self.assertEqual(self.post("/embed", {"texts": []})["embeddings"], [])

    def test_inputs(self):
        a = self.post("/embed", {"inputs": TEXTS})
        numpy.testing.assert_array_equal(rows(a), command_line(TEXTS))
        one = self.post("/embed", {"inputs": TEXTS[0]})
        self.assertEqual(len(one), 1)
        numpy.testing.assert_array_equal(rows(one), rows(a[:1]))
        for name in ("x-compute-type", "x-compute-time", "x-compute-characters", "x-compute-tokens", "x-total-time",
                     "x-tokenization-time", "x-queue-time", "x-inference-time"):
            self.assertIn(name, self.headers)
        self.assertEqual(self.headers["x-compute-characters"], str(len(TEXTS[0])))

    def test_ids(self):
        ids = [t["id"] for t in self.post("/tokenize", {"inputs": TEXTS[0]})[0]]
        numpy.testing.assert_array_equal(rows(self.post("/embed", {"inputs": ids})), command_line(TEXTS[:1]))
        self.assertEqual(len(self.post("/embed", {"inputs": [ids, ids[:3]]})), 2)
        self.assertEqual(self.post("/embed", {"inputs": [99999999]}, 422)["error_type"], "Validation")

    def test_options(self):
        numpy.testing.assert_array_equal(rows(self.post("/embed", {"inputs": TEXTS, "dimensions": 32})),
                                         command_line(TEXTS, "--dimensions", "32"))
        right = rows(self.post("/embed", {"inputs": LONG}))
        numpy.testing.assert_array_equal(rows(self.post("/embed", {"inputs": LONG, "truncation_direction": "Right"})), right)
        left = rows(self.post("/embed", {"inputs": LONG, "truncate": True, "truncation_direction": "Left"}))
        numpy.testing.assert_array_equal(left, rows(self.post("/embed", {"inputs": LONG, "truncation_direction": "left"})))
        self.assertFalse(numpy.array_equal(left, right))
        self.assertEqual(len(self.post("/embed", {"inputs": TEXTS[0], "normalize": False})[0]), 384)
        nested = rows(self.post("/embed", {"inputs": TEXTS, "parameters": {"dimensions": 32}}))
        self.assertEqual(nested.shape, (3, 32))

    def test_errors(self):
        for body, status, kind in (
                ({}, 422, "Validation"), ({"texts": ["a"], "inputs": ["a"]}, 422, "Validation"), ({"inputs": {}}, 422, "Validation"),
                ({"inputs": []}, 400, "Empty"), ({"inputs": ""}, 400, "Empty"), ({"inputs": ["a", ""]}, 400, "Empty"),
                ({"inputs": 5}, 422, "Validation"), ({"inputs": [1.5]}, 422, "Validation"), ({"texts": "a"}, 422, "Validation"),
                ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
                ({"inputs": LONG, "truncate": False}, 422, "Validation"), ({"inputs": "a", "normalize": 3}, 422, "Validation"),
                ({"inputs": "a", "dimensions": 4096}, 422, "Validation"), ({"inputs": "a", "prompt_name": "x"}, 422, "Validation"),
                ({"inputs": "a", "parameters": 1}, 422, "Validation"), ({"texts": ["a"], "batch_size": 0}, 422, "Validation"),
                ({"inputs": ["a"] * 2049}, 422, "Validation"), ({"inputs": "a", "encoding_format": "base64"}, 422, "Validation"),
                ({"inputs": "a", "model": "no-such"}, 404, "Validation")):
            a = self.post("/embed", body, status)
            self.assertEqual((sorted(a), a["error_type"]), (["error", "error_type"], kind), str(body)[:80])
        both = self.post("/embed", {"input": "a"}, 422)["error"]
        self.assertTrue("texts" in both and "inputs" in both)

    def test_embed_all(self):
        a = self.post("/embed_all", {"inputs": TEXTS})
        tokens = [len(t) for t in self.post("/tokenize", {"inputs": TEXTS})]
        self.assertEqual([len(t) for t in a], tokens)
        self.assertEqual(a[0], a[2])
        pooled = rows(numpy.mean(numpy.array(t), axis=0) for t in a)
        pooled /= numpy.linalg.norm(pooled, axis=1, keepdims=True)
        numpy.testing.assert_allclose(pooled, command_line(TEXTS), atol=1e-5)
        many = self.post("/embed_all", {"inputs": ["text %d" % i for i in range(70)]})
        self.assertEqual(many[69], self.post("/embed_all", {"inputs": "text 69"})[0])
        ids = [t["id"] for t in self.post("/tokenize", {"inputs": TEXTS[0]})[0]]
        self.assertEqual(self.post("/embed_all", {"inputs": [ids] * 20}), [a[0]] * 20)
        self.assertEqual(len(self.post("/embed_all", {"inputs": LONG})[0]), 256)
        for body, part in (({"inputs": ["a"] * 40 + [LONG], "truncate": False}, "inputs[40]"),
                           ({"inputs": [[101]] * 30 + [[99999999]]}, "inputs[30]"), ({"inputs": "a", "dimensions": 4}, "dimensions"),
                           ({"inputs": 5}, "inputs"), ({"inputs": "a", "prompt_name": "zzz"}, "zzz")):
            self.assertIn(part, self.post("/embed_all", body, 422)["error"])
        self.post("/embed_all", {"inputs": "a", "model": "no-such"}, 404)

    def test_other_kinds_of_models(self):
        for path, body in (("/rerank", {"query": "q", "texts": ["a"], "raw_scores": False, "return_text": True}),
                           ("/predict", {"inputs": "a"}), ("/predict", {"inputs": ["a", ["b", "c"]]}),
                           ("/embed_sparse", {"inputs": ["a", "b"]})):
            a = self.post(path, body, 424)
            self.assertEqual(a["error_type"], "Backend")
            self.assertIn(MODEL, a["error"])
        for path, body, status in (("/rerank", {"query": "q", "texts": []}, 400), ("/rerank", {"texts": ["a"]}, 422),
                                   ("/rerank", {"query": "q", "texts": "a"}, 422), ("/predict", {}, 422),
                                   ("/predict", {"inputs": []}, 400), ("/predict", {"inputs": [["a", "b", "c"]]}, 422),
                                   ("/predict", {"inputs": {}}, 422), ("/predict", {"inputs": "\0"}, 422),
                                   ("/embed_sparse", {"inputs": []}, 400), ("/embed_sparse", {"inputs": "a", "model": "no-such"}, 404)):
            self.post(path, body, status)


class Hub(Case):
    """What huggingface_hub's InferenceClient sends, wherever it was told to."""
    def test_feature_extraction(self):
        want = command_line(TEXTS)
        for path in ("/", "/models/" + MODEL, "/models/sentence-transformers/" + MODEL,
                     "/models/%s/pipeline/feature-extraction" % MODEL, "/pipeline/feature-extraction/" + MODEL,
                     "/models/sentence-transformers/%s/pipeline/feature-extraction" % MODEL,
                     "/pipeline/feature-extraction/sentence-transformers/" + MODEL,
                     "/hf-inference/models/sentence-transformers/%s/pipeline/feature-extraction" % MODEL):
            numpy.testing.assert_array_equal(rows(self.post(path, {"inputs": TEXTS, "truncate": True})), want, path)

    def test_similarity(self):
        inputs = {"source_sentence": TEXTS[0], "sentences": ["deep neural networks", TEXTS[0], "a cat"]}
        v = command_line([inputs["source_sentence"]] + inputs["sentences"]).astype(numpy.float64)
        want = (v[1:] @ v[0]) / numpy.linalg.norm(v[1:], axis=1) / numpy.linalg.norm(v[0])
        for path in ("/similarity", "/", "/models/" + MODEL, "/hf-inference/models/%s/pipeline/sentence-similarity" % MODEL):
            got = self.post(path, {"inputs": inputs, "parameters": {}})
            numpy.testing.assert_allclose(got, want, atol=1e-6)
        for body, status in (({"inputs": "a"}, 422), ({"inputs": {"source_sentence": "a"}}, 422), ({}, 422),
                             ({"inputs": {"source_sentence": "a", "sentences": []}}, 400),
                             ({"inputs": {"source_sentence": 1, "sentences": ["a"]}}, 422),
                             ({"inputs": {"source_sentence": "a", "sentences": ["a"] * 2048}}, 422)):
            self.post("/similarity", body, status)

    def test_errors(self):
        self.post("/models/no-such", {"inputs": "a"}, 404)
        self.assertIn("summarization", self.post("/models/%s/pipeline/summarization" % MODEL, {"inputs": "a"}, 404)["error"])
        self.post("/pipeline/summarization/" + MODEL, {"inputs": "a"}, 404)
        self.post("/models/../../etc/passwd", {"inputs": "a"}, 404)
        self.post("/models/%s/pipeline/sentence-similarity" % MODEL, {"inputs": "a"}, 422)


class Tokens(Case):
    def test_tokenize(self):
        text = "Hello, wörld! unaffable"
        a = self.post("/tokenize", {"inputs": [text, "x"]})
        self.assertEqual(len(a), 2)
        first, last = a[0][0], a[0][-1]
        self.assertEqual((first, last), ({"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None},
                                         {"id": 102, "text": "[SEP]", "special": True, "start": None, "stop": None}))
        data = text.encode()
        for token in a[0][1:-1]:
            self.assertFalse(token["special"])
            self.assertEqual(data[token["start"]:token["stop"]].decode(), token["text"])
        bare = self.post("/tokenize", {"inputs": text, "add_special_tokens": False})[0]
        self.assertEqual(bare, a[0][1:-1])
        self.assertEqual(self.post("/tokenize", {"inputs": ""}, 400)["error_type"], "Empty")
        self.post("/tokenize", {"inputs": [1]}, 422)
        self.assertIn("prompt_name", self.post("/tokenize", {"inputs": "a", "prompt_name": "zzz"}, 422)["error"])

    def test_decode(self):
        ids = [t["id"] for t in self.post("/tokenize", {"inputs": "Hello, World! Don't. Unaffable?"})[0]]
        self.assertEqual(self.post("/decode", {"ids": ids}), ["hello, world! don ' t. unaffable?"])
        self.assertEqual(self.post("/decode", {"ids": [ids, [7592]], "skip_special_tokens": False})[1], "hello")
        self.assertEqual(self.post("/decode", {"ids": [101, 7592, 102], "skip_special_tokens": False}), ["[CLS] hello [SEP]"])
        self.assertEqual(self.post("/decode", {"ids": [999999]}), [""])
        for body, status in (({}, 422), ({"ids": "a"}, 422), ({"ids": ["a"]}, 422), ({"ids": []}, 400), ({"ids": [-1]}, 422)):
            self.post("/decode", body, status)


class Info(Case):
    ENV = {"EMBEDD_MAX_INPUTS": "32", "EMBEDD_PRECISION": "fp32"}

    def test_info(self):
        a = self.get("/info")
        self.assertEqual((a["model_id"], a["model_dtype"], a["model_type"], a["max_input_length"], a["max_client_batch_size"],
                          a["auto_truncate"]),
                         ("sentence-transformers/" + MODEL, "float32", {"embedding": {"pooling": "mean"}}, 256, 32, True))
        self.assertRegex(a["model_sha"], "^[0-9a-f]{12,40}$")
        self.get("/info?model=no-such", 404)
        self.assertIn("32", self.post("/embed", {"inputs": ["a"] * 33}, 422)["error"])
        self.assertEqual(len(self.post("/embed", {"inputs": ["a"] * 32})), 32)


if __name__ == "__main__":
    unittest.main()
