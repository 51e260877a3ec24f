"""The official clients in front, a provider behind: the scripted upstream of each kind, or a second embedd."""
import asyncio
import json
import os
import subprocess
import sys
import unittest

import cohere
import numpy
import ollama
import openai
import tiktoken
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from langchain_openai import OpenAIEmbeddings

from gateway_case import KINDS, SMALL, TEXTS, GatewayCase, faults, reference
from clients import MODEL

ONCE = {"max_retries": 0}


def by_openai(url, model, texts):
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        return [d.embedding for d in client.embeddings.create(model=model, input=texts).data]


def by_azure(url, model, texts):
    with openai.AzureOpenAI(azure_endpoint=url, api_key="none", api_version="2024-10-21", max_retries=0) as client:
        return [d.embedding for d in client.embeddings.create(model=model, input=texts).data]


def by_langchain(url, model, texts):
    return OpenAIEmbeddings(base_url=url + "/v1", api_key="none", model=model, max_retries=0, chunk_size=4,
                            check_embedding_ctx_length=False).embed_documents(texts)


def by_cohere(url, model, texts):
    return cohere.ClientV2(api_key="none", base_url=url).embed(
        model=model, input_type="search_document", texts=texts, embedding_types=["float"]).embeddings.float_


def by_ollama(url, model, texts):
    return ollama.Client(host=url).embed(model=model, input=texts).embeddings


def by_huggingface(url, model, texts):
    return InferenceClient(model="%s/models/%s" % (url, model), token="none").feature_extraction(texts)


CLIENTS = (by_openai, by_azure, by_langchain, by_cohere, by_ollama, by_huggingface)


class EveryKind(GatewayCase):
    def test_every_client_before_every_kind(self):
        for kind in KINDS:
            s = self.of_kind(kind)
            for client in CLIENTS:
                with self.subTest(kind=kind, client=client.__name__):
                    self.up.reset_record()
                    texts = [client.__name__ + " " + t for t in TEXTS]
                    for i in range(2):  # computed, then from the cache
                        self.same(client(s.url, "m", texts), self.expect(self.upstream_name, texts))
                    self.assertEqual(len(self.up.texts()), len(set(texts)), "each text once")
            s.close()

    def test_more_texts_than_a_call_may_have(self):
        texts = ["text number %d" % (i % 250) for i in range(300)]
        for kind in KINDS:
            s = self.of_kind(kind)
            with self.subTest(kind=kind):
                self.up.reset_record()
                self.same(by_openai(s.url, "m", texts), self.expect(self.upstream_name, texts))
                self.assertEqual(sorted(self.up.texts()), sorted(set(texts)))
            s.close()


class OpenAI(GatewayCase):
    def setUp(self):
        super().setUp()
        self.s = self.openai()
        self.client = self.connect()

    def connect(self, url=None, retries=0):
        client = openai.OpenAI(base_url=(url or self.s.url) + "/v1", api_key="none", max_retries=retries)
        self.addCleanup(client.close)
        return client

    def create(self, **more):
        return self.client.embeddings.create(**{"model": SMALL, **more})

    def vectors(self, **more):
        answer = self.create(**more)
        self.assertEqual(answer.model, SMALL)
        self.assertEqual([d.index for d in answer.data], list(range(len(answer.data))))
        return [d.embedding for d in answer.data]

    def test_encodings_and_dimensions(self):
        want = self.expect(SMALL, TEXTS)
        self.same(self.vectors(input=TEXTS), want)
        self.same(self.vectors(input=TEXTS, encoding_format="float"), want)
        self.same(self.vectors(input=TEXTS[0]), want[:1])
        self.assertEqual(self.up.calls, 1, "one space for every encoding")
        self.same(self.vectors(input=TEXTS, dimensions=256), self.expect(SMALL, TEXTS, 256))

    def test_token_arrays_and_usage(self):
        encoding = tiktoken.get_encoding("cl100k_base")
        ids = [encoding.encode_ordinary(t) for t in TEXTS]
        self.up.spell = lambda t: encoding.decode(list(t))
        want = self.expect(SMALL, TEXTS)
        self.same(self.vectors(input=ids), want)
        self.same(self.vectors(input=ids[2]), want[2:3])
        usage = self.create(input=["a new text", "and a second new text"]).usage
        count = sum(len(encoding.encode_ordinary(t)) for t in ("a new text", "and a second new text"))
        self.assertEqual((usage.prompt_tokens, usage.total_tokens), (count, count))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.create(input=[[10 ** 9]])
        self.assertEqual(caught.exception.param, "input[0]")

    def test_langchain_sends_tokens(self):
        self.up.spell = lambda t: tiktoken.get_encoding("cl100k_base").decode(list(t))
        e = OpenAIEmbeddings(base_url=self.s.url + "/v1", api_key="none", model=SMALL, chunk_size=3)
        self.same(e.embed_documents(TEXTS), self.expect(SMALL, TEXTS))
        self.same([e.embed_query("a query")], self.expect(SMALL, ["a query"]))
        self.same(asyncio.run(e.aembed_documents(TEXTS)), self.expect(SMALL, TEXTS))
        self.assertEqual(sorted(self.up.texts()), sorted(set(TEXTS) | {"a query"}))
        self.assertTrue(all(r.ids for r in self.up.embeddings()), "they go on as tokens")

    def test_async(self):
        async def run():
            async with openai.AsyncOpenAI(base_url=self.s.url + "/v1", api_key="none") as client:
                answers = await asyncio.gather(*(client.embeddings.create(model=SMALL, input="async %d" % (i % 7))
                                                 for i in range(40)))
            return [a.data[0].embedding for a in answers]
        texts = ["async %d" % (i % 7) for i in range(40)]
        self.same(asyncio.run(run()), self.expect(SMALL, texts))
        self.assertEqual(self.up.calls, 7, "one call for each text")

    def failure(self, kind, client=None, **more):
        with self.assertRaises(kind) as caught:
            (client or self.client).embeddings.create(**{"model": SMALL, "input": "a", **more})
        self.assertEqual(set(caught.exception.body), {"message", "type", "param", "code"})
        self.assertNotIn("sk-upstream", str(caught.exception.body))
        return caught.exception

    def test_budget(self):
        s = self.of_kind("openai", budget="0.002", price="0.5")  # of four tokens, what "a" is reserved as at most
        client = self.connect(s.url)
        client.embeddings.create(model="m", input="a")
        error = self.failure(openai.APIStatusError, client, model="m", input="a text of many more words " * 20)
        self.assertEqual((error.status_code, error.code), (402, "budget_exhausted"))
        self.assertEqual(self.up.calls, 1)

    def test_privacy(self):
        error = self.failure(openai.PermissionDeniedError, input="write to jane.doe@example.com")
        self.assertEqual(error.code, "privacy")
        self.assertNotIn("jane", str(error.body))
        self.assertEqual(self.up.calls, 0)

    def test_upstream_down_and_back(self):
        self.up.stop_listening()
        self.assertEqual(self.failure(openai.InternalServerError).status_code, 503)
        self.up.start_listening()
        self.same(self.vectors(input="a"), self.expect(SMALL, ["a"]))

    def test_the_client_tries_again(self):
        client = self.connect(retries=3)
        for n, fault in enumerate((faults.status(500), faults.reset)):
            self.up.reset_record()
            self.up.script([fault, fault])
            text = "tried again %d" % n
            answer = client.embeddings.create(model=SMALL, input=text)
            self.same([answer.data[0].embedding], self.expect(SMALL, [text]))
            self.assertEqual(self.up.calls, 3)

    def test_unknown_model_and_dimension(self):
        self.assertEqual(self.failure(openai.NotFoundError, model="no-such-model").code, "model_not_found")
        self.assertEqual(self.failure(openai.BadRequestError, dimensions=1537).param, "dimensions")
        self.assertEqual(self.up.calls, 0)

    def test_models(self):
        listed = {m.id for m in self.client.models.list()}
        self.assertTrue({SMALL, MODEL} <= listed, listed)
        self.assertEqual(self.client.models.retrieve(SMALL).id, SMALL)

    def test_node(self):
        self.up.spell = {(15339, 1917): "hello world"}.get
        node = os.path.join(os.path.dirname(sys.executable), "node")
        p = subprocess.run([node, "openai_gateway.mjs", self.s.url, SMALL], cwd=os.environ["EMBEDD_TEST_NODE"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        out = json.loads(p.stdout)
        texts = ["first text", "second text", "first text"]
        self.same(out["plain"], self.expect(SMALL, texts))
        self.same(out["float"], self.expect(SMALL, texts))
        self.same(out["tokens"], self.expect(SMALL, ["hello world"]))
        self.same(out["dimensions"], self.expect(SMALL, texts, 256))
        self.same(out["parallel"], self.expect(SMALL, ["text %d" % i for i in range(20)]))
        self.assertEqual((out["unknown"]["status"], out["unknown"]["code"]), (404, "model_not_found"))
        self.assertEqual((out["private"]["status"], out["private"]["code"]), (403, "privacy"))


class Errors(GatewayCase):
    """What the other clients make of a provider that is down and of a text that may not leave."""

    def statuses(self, s, text):
        """By client."""
        out = {}
        for client in (by_cohere_once, by_ollama, by_huggingface):
            with self.assertRaises((cohere.core.ApiError, ollama.ResponseError, HfHubHTTPError)) as caught:
                client(s.url, SMALL, [text])
            e = caught.exception
            out[client.__name__] = e.response.status_code if isinstance(e, HfHubHTTPError) else e.status_code
        return set(out.values())

    def test_down(self):
        s = self.openai()
        self.up.stop_listening()
        self.assertEqual(self.statuses(s, "a text"), {503})

    def test_private(self):
        s = self.openai()
        self.assertEqual(self.statuses(s, "write to jane.doe@example.com"), {403})
        self.assertEqual(self.up.calls, 0)


def by_cohere_once(url, model, texts):
    return cohere.ClientV2(api_key="none", base_url=url).embed(
        model=model, input_type="search_document", texts=texts, embedding_types=["float"], request_options=ONCE)


class EmbeddBeforeEmbedd(GatewayCase):
    """The inner one has the model; the outer one only asks it."""
    YAML = """
providers:
  default: inner
  instances:
    - {name: inner, kind: %(kind)s, base_url: "%(url)s", api_key: inner-key, max_retries: 0,
       models: [{name: m, upstream: all-MiniLM-L6-v2, shortens: true, price_per_1k_tokens: 0%(more)s}]}
hybrid: {fallback: none}
cache: {url: none}
"""

    def check(self, kind, path, more=""):
        inner = self.service(env={"EMBEDD_API_KEYS": "inner-key"})
        outer = self.configured(self.YAML % {"kind": kind, "url": inner.url + path, "more": more})
        want = reference(TEXTS)
        for client in CLIENTS:
            with self.subTest(kind=kind, client=client.__name__):
                self.same(client(outer.url, "m", TEXTS), want)
        with openai.OpenAI(base_url=outer.url + "/v1", api_key="none", max_retries=0) as client:
            answer = client.embeddings.with_raw_response.create(model="m", input=TEXTS + ["one more"])
            self.assertEqual(answer.headers["x-embedd-provider"], "inner")
            vectors = [d.embedding for d in answer.parse().data]
            numpy.testing.assert_array_equal(numpy.array(vectors, dtype=numpy.float32), reference(TEXTS + ["one more"]))
            short = client.embeddings.create(model="m", input=TEXTS, dimensions=64)
            self.same([d.embedding for d in short.data], reference(TEXTS, "--dimensions", "64"))
            many = ["text number %d" % (i % 250) for i in range(300)]
            self.same([d.embedding for d in client.embeddings.create(model="m", input=many).data], reference(many))
            one = client.embeddings.create(model="m", input="hello world again")
            self.assertEqual(one.usage.total_tokens, 5, "as the inner one counts")

    def test_kind_embedd(self):
        self.check("embedd", "")

    def test_kind_openai(self):
        self.check("openai", "/v1")

    def test_kind_tei(self):
        self.check("tei", "")

    def test_wrong_key(self):
        inner = self.service(env={"EMBEDD_API_KEYS": "another"})
        outer = self.configured(self.YAML % {"kind": "embedd", "url": inner.url, "more": ", dimension: 384"})
        with openai.OpenAI(base_url=outer.url + "/v1", api_key="none", max_retries=0) as client:
            with self.assertRaises(openai.InternalServerError) as caught:
                client.embeddings.create(model="m", input="a")
        self.assertNotIn("inner-key", str(caught.exception.body))


if __name__ == "__main__":
    unittest.main()
