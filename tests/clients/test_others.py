"""The clients of Cohere, Ollama and Hugging Face."""
import asyncio
import base64
import unittest

import cohere
import numpy
import ollama
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from clients import MODEL, TEXTS, Case, reference


class Cohere(Case):
    def client(self):
        return cohere.ClientV2(api_key="none", base_url=self.url)

    def test_float(self):
        answer = self.client().embed(model=MODEL, input_type="search_document", texts=TEXTS, embedding_types=["float"])
        self.same(answer.embeddings.float_, TEXTS)
        self.assertEqual(answer.texts, TEXTS)
        self.assertGreater(answer.meta.billed_units.input_tokens, 0)

    def test_types(self):
        answer = self.client().embed(model=MODEL, input_type="search_query", texts=["hello world"], output_dimension=64,
                                     embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"])
        e = answer.embeddings
        want = reference(["hello world"], "--dimensions", "64")[0]
        self.same(e.float_, ["hello world"], "--dimensions", "64")
        self.assertEqual(e.ubinary[0], numpy.packbits(want > 0).tolist())
        self.assertEqual(e.binary[0], (numpy.packbits(want > 0).astype(int) - 128).tolist())
        self.assertEqual([b - 128 for b in e.uint8[0]], e.int8[0])
        self.assertGreater(numpy.corrcoef(e.int8[0], want)[0, 1], 0.99)
        numpy.testing.assert_array_equal(numpy.frombuffer(base64.b64decode(e.base64[0]), dtype="<f4"), want)

    def test_errors(self):
        with self.assertRaises(cohere.NotFoundError):
            self.client().embed(model="no-such-model", input_type="search_query", texts=["a"], embedding_types=["float"])
        with self.assertRaises((cohere.BadRequestError, cohere.UnprocessableEntityError)):
            self.client().embed(model=MODEL, input_type="search_query", texts=[], embedding_types=["float"])

    def test_rerank_says_that_it_cannot(self):
        with self.assertRaises(cohere.core.ApiError) as caught:
            self.client().rerank(model=MODEL, query="q", documents=["a", "b"])
        self.assertLess(caught.exception.status_code, 500)
        self.assertIn(MODEL, str(caught.exception.body))


class Ollama(Case):
    def test_embed(self):
        client = ollama.Client(host=self.url)
        answer = client.embed(model=MODEL, input=TEXTS)
        self.same(answer.embeddings, TEXTS)
        self.assertEqual(answer.model, MODEL)
        self.assertGreater(answer.total_duration, 0)
        self.assertGreater(answer.prompt_eval_count, 0)
        self.same(client.embed(model=MODEL, input="hello world").embeddings, ["hello world"])
        self.same(client.embed(model=MODEL, input="hello world", dimensions=32).embeddings, ["hello world"],
                  "--dimensions", "32")

    def test_legacy(self):
        self.same([ollama.Client(host=self.url).embeddings(model=MODEL, prompt="hello world").embedding], ["hello world"])

    def test_async(self):
        answer = asyncio.run(ollama.AsyncClient(host=self.url).embed(model=MODEL, input=TEXTS))
        self.same(answer.embeddings, TEXTS)

    def test_list(self):
        self.assertTrue([m for m in ollama.Client(host=self.url).list().models if m.model.startswith(MODEL)])

    def test_errors(self):
        with self.assertRaises(ollama.ResponseError) as caught:
            ollama.Client(host=self.url).embed(model="no-such-model", input="a")
        self.assertEqual(caught.exception.status_code, 404)
        self.assertIn("no-such-model", caught.exception.error)


class HuggingFace(Case):
    def test_feature_extraction(self):
        client = InferenceClient(model=self.url, token="none")
        self.same(client.feature_extraction("hello world").reshape(1, -1), ["hello world"])
        self.same(client.feature_extraction(TEXTS), TEXTS)
        short = client.feature_extraction("hello world", dimensions=64, truncate=True)
        self.same(short.reshape(1, -1), ["hello world"], "--dimensions", "64")
        raw = client.feature_extraction("hello world", normalize=False)
        self.assertEqual(raw.reshape(-1).shape, (384,))

    def test_route_below(self):
        self.same(InferenceClient(model=self.url + "/embed", token="none").feature_extraction(TEXTS), TEXTS)

    def test_similarity(self):
        got = InferenceClient(model=self.url + "/similarity", token="none").sentence_similarity(
            "hello world", other_sentences=["hello world", "a man plays guitar"])
        want = reference(["hello world", "a man plays guitar"])
        self.assertAlmostEqual(got[0], 1, places=5)
        self.assertAlmostEqual(got[1], float(want[0] @ want[1]), places=5)

    def test_async(self):
        async def run():
            async with AsyncInferenceClient(model=self.url, token="none") as client:
                return await client.feature_extraction(TEXTS)
        self.same(asyncio.run(run()), TEXTS)

    def test_errors(self):
        with self.assertRaises(HfHubHTTPError) as caught:
            InferenceClient(model=self.url, token="none").feature_extraction("a", dimensions=4096)
        self.assertIn(caught.exception.response.status_code, (400, 413, 422))


if __name__ == "__main__":
    unittest.main()
