"""OpenAI's Python client."""
import asyncio
import base64
import os
import unittest

import numpy
import openai

from clients import MODEL, TEXTS, Case, reference

KEY = "sk-test-key"


class OpenAI(Case):
    ENV = {"EMBEDD_API_KEYS": KEY}

    def setUp(self):
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0)
        self.addCleanup(self.client.close)

    def vectors(self, **more):
        answer = self.client.embeddings.create(model=MODEL, **more)
        self.assertEqual(answer.object, "list")
        self.assertEqual(answer.model, MODEL)
        self.assertEqual([d.index for d in answer.data], list(range(len(answer.data))))
        return [d.embedding for d in answer.data], answer

    def test_default_is_base64(self):
        vectors, answer = self.vectors(input=TEXTS)
        self.same(vectors, TEXTS)
        raw = self.client.embeddings.with_raw_response.create(model=MODEL, input="hello world")
        self.assertIn(b'"encoding_format":"base64"', raw.http_request.content)
        self.assertEqual(answer.usage.prompt_tokens, answer.usage.total_tokens)
        self.assertGreater(answer.usage.total_tokens, 50)

    def test_one_text(self):
        vectors, answer = self.vectors(input="hello world")
        self.same(vectors, ["hello world"])
        self.assertEqual(answer.usage.prompt_tokens, 4)

    def test_float(self):
        self.same(self.vectors(input=TEXTS, encoding_format="float")[0], TEXTS)

    def test_explicit_base64(self):
        vectors, _ = self.vectors(input=["hello world"], encoding_format="base64")
        self.same([numpy.frombuffer(base64.b64decode(vectors[0]), dtype="<f4")], ["hello world"])

    def test_dimensions(self):
        vectors, _ = self.vectors(input=TEXTS, dimensions=128)
        self.same(vectors, TEXTS, "--dimensions", "128")
        self.assertAlmostEqual(float(numpy.linalg.norm(vectors[0])), 1, places=5)

    def test_token_arrays(self):
        ids = [101, 7592, 2088, 102]
        one, answer = self.vectors(input=ids)
        self.same(one, ["hello world"])
        self.assertEqual(answer.usage.prompt_tokens, 4)
        self.same(self.vectors(input=[ids, ids])[0], ["hello world"] * 2)

    def test_user_and_extra_members(self):
        self.same(self.vectors(input="a", user="u-1", extra_body={"truncate": True})[0], ["a"])

    def test_large_batch(self):
        texts = ["text number %d" % (i % 700) for i in range(2048)]
        self.same(self.vectors(input=texts)[0], texts)

    def test_models(self):
        listed = {m.id for m in self.client.models.list()}
        self.assertIn(MODEL, listed)
        model = self.client.models.retrieve(MODEL)
        self.assertEqual((model.id, model.object), (MODEL, "model"))
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no/such-model")

    def failure(self, kind, **more):
        with self.assertRaises(kind) as caught:
            self.client.embeddings.create(**{"model": MODEL, "input": "a", **more})
        error = caught.exception
        self.assertTrue(error.message)
        self.assertEqual(set(error.body), {"message", "type", "param", "code"})
        self.assertTrue(error.request_id)
        return error

    def test_errors(self):
        self.assertEqual(self.failure(openai.NotFoundError, model="no-such-model").code, "model_not_found")
        for bad in (dict(input=[]), dict(input=[[]]), dict(input=[1.5]), dict(input=["a", 1]),
                    dict(dimensions=385), dict(dimensions=0), dict(encoding_format="hex"), dict(input=[10 ** 9])):
            error = self.failure(openai.BadRequestError, **bad)
            self.assertEqual(error.type, "invalid_request_error")
            self.assertTrue(error.param, bad)

    def test_wrong_key(self):
        with openai.OpenAI(base_url=self.url + "/v1", api_key="sk-wrong", max_retries=0) as client:
            with self.assertRaises(openai.AuthenticationError) as caught:
                client.embeddings.create(model=MODEL, input="a")
        self.assertEqual(caught.exception.code, "invalid_api_key")
        self.assertNotIn("sk-wrong", str(self.service.lines))

    def test_async(self):
        async def run():
            async with openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=KEY) as client:
                answers = await asyncio.gather(*(client.embeddings.create(model=MODEL, input="async %d" % (i % 7))
                                                 for i in range(40)))
            return [a.data[0].embedding for a in answers]
        self.same(asyncio.run(run()), ["async %d" % (i % 7) for i in range(40)])

    def test_azure(self):
        with openai.AzureOpenAI(azure_endpoint=self.url, api_key=KEY, api_version="2024-10-21") as client:
            answer = client.embeddings.create(model=MODEL, input=TEXTS)
        self.same([d.embedding for d in answer.data], TEXTS)


class Retries(Case):
    """The client waits as Retry-After says and is let in then."""
    ENV = {"EMBEDD_API_KEYS_FILE": None}

    @classmethod
    def setUpClass(cls):
        import hashlib
        import tempfile
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        path = os.path.join(folder.name, "keys.yaml")
        with open(path, "w") as f:
            f.write("keys:\n  - name: slow\n    sha256: %s\n    requests_per_minute: 120\n    burst: 1\n"
                    % hashlib.sha256(KEY.encode()).hexdigest())
        os.chmod(path, 0o600)
        cls.ENV = {"EMBEDD_API_KEYS_FILE": path}
        super().setUpClass()

    def test_rate_limit(self):
        with openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0) as client:
            with self.assertRaises(openai.RateLimitError) as caught:
                for _ in range(10):
                    client.embeddings.create(model=MODEL, input="a")
            self.assertGreater(float(caught.exception.response.headers["retry-after"]), 0)
        with openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=5) as client:
            for _ in range(4):
                self.same([client.embeddings.create(model=MODEL, input="a").data[0].embedding], ["a"])


if __name__ == "__main__":
    unittest.main()
