"""Embeddings of LangChain and LlamaIndex, over the OpenAI, Ollama and text-embeddings-inference routes."""
import asyncio
import unittest

from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from clients import MODEL, TEXTS, Case


class LangChain(Case):
    def embeddings(self, **more):
        # its check of lengths would fetch OpenAI's vocabulary and send token ids of that
        return OpenAIEmbeddings(base_url=self.url + "/v1", api_key="none", model=MODEL, check_embedding_ctx_length=False,
                                **more)

    def test_documents_and_query(self):
        e = self.embeddings()
        self.same(e.embed_documents(TEXTS), TEXTS)
        self.same([e.embed_query("hello world")], ["hello world"])

    def test_chunks(self):
        texts = ["chunk %d" % i for i in range(150)]
        self.same(self.embeddings(chunk_size=16).embed_documents(texts), texts)

    def test_dimensions(self):
        self.same(self.embeddings(dimensions=64).embed_documents(TEXTS), TEXTS, "--dimensions", "64")

    def test_async(self):
        self.same(asyncio.run(self.embeddings().aembed_documents(TEXTS)), TEXTS)


class LlamaIndex(Case):
    def test_openai_like(self):
        e = OpenAILikeEmbedding(model_name=MODEL, api_base=self.url + "/v1", api_key="none", embed_batch_size=3)
        self.same(e.get_text_embedding_batch(TEXTS), TEXTS)
        self.same([e.get_query_embedding("hello world")], ["hello world"])

    def test_text_embeddings_inference(self):
        e = TextEmbeddingsInference(base_url=self.url, model_name=MODEL, embed_batch_size=3, query_instruction="",
                                    text_instruction="")
        texts = [t.strip() for t in TEXTS]
        self.same(e.get_text_embedding_batch(TEXTS), texts)
        self.same([e.get_query_embedding("hello world")], ["hello world"])
        self.same(asyncio.run(e.aget_text_embedding_batch(TEXTS)), texts)

    def test_ollama(self):
        e = OllamaEmbedding(model_name=MODEL, base_url=self.url)
        self.same(e.get_text_embedding_batch(["one", "two"]), ["one", "two"])
        self.same([e.get_query_embedding("hello world")], ["hello world"])


if __name__ == "__main__":
    unittest.main()
