"""What the tests of clients before a gateway share: a scripted upstream, and an embedd in front of it whose default provider
it is."""
import base64
import hashlib
import os
import struct
import tempfile
import unittest

import numpy

import clients
from clients import ROOT, Service
import upstream
import upstream_faults as faults  # noqa: F401

KEY = "sk-upstream-secret"
SMALL = "text-embedding-3-small"
KINDS = ("openai", "azure", "cohere", "ollama", "tei")
TEXTS = ["hello world", "a man plays guitar", "naïve café 東京", "hello world", "x " * 50, "👩‍👩‍👧\tfamily\nof lines"]
YAML = """
providers:
  default: %(kind)s
  instances:
    - name: %(kind)s
      kind: %(kind)s
      base_url: "%(url)s"
      api_key: %(key)s
      max_retries: 0
      models: [{name: m, upstream: %(upstream)s, dimension: 8, price_per_1k_tokens: %(price)s, shortens: true}]
hybrid: {daily_api_budget_usd: %(budget)s, fallback: none}
cache: {enabled: %(caching)s, url: none}
"""


def tiktoken_cache(folder):
    """Puts the ranks of cl100k_base where tiktoken looks before it fetches them; it checks their hash itself."""
    with open(os.path.join(ROOT, "models", "cl100k_base", "ranks.bin"), "rb") as f:
        data = f.read()
    count = struct.unpack("<I", data[8:12])[0]
    lengths, at, lines = data[12:12 + count], 12 + count, []
    for rank, length in enumerate(lengths):
        lines.append(b"%s %d\n" % (base64.b64encode(data[at:at + length]), rank))
        at += length
    name = hashlib.sha1(b"https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken").hexdigest()
    with open(os.path.join(folder, name), "wb") as f:
        f.write(b"".join(lines))
    os.environ["TIKTOKEN_CACHE_DIR"] = folder


class GatewayCase(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        for name in [k for k in os.environ if k.lower().endswith("_proxy")]:
            os.environ.pop(name)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        tiktoken_cache(folder.name)

    def setUp(self):
        self.up = upstream.Upstream(key=KEY)
        self.addCleanup(self.up.close)

    def service(self, *arguments, **more):
        s = Service(*arguments, **more)
        self.addCleanup(s.close)
        return s

    def configured(self, yaml, **more):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "embedd.yaml")
        with open(path, "w") as f:
            f.write(yaml)
        os.chmod(path, 0o600)
        return self.service("--config", path, **more)

    def of_kind(self, kind, budget="10", price="0", caching="true"):
        self.upstream_name = "served-model" if kind in ("tei", "remote") else "m"
        return self.configured(YAML % {"kind": kind, "url": self.up.base_url(kind), "key": KEY, "budget": budget,
                                       "price": price, "upstream": self.upstream_name, "caching": caching})

    def openai(self, **more):
        """OpenAI by environment, as most have it."""
        return self.service(env=dict({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": self.up.base_url("openai"),
                                      "OPENAI_EMBEDDING_MAX_RETRIES": "0", "EMBEDDING_PROVIDER": "openai",
                                      "EMBEDD_FALLBACK": "none"}, **more))

    def expect(self, model, texts, dimension=None):
        return numpy.array([self.up.vector(model, t, dimension) for t in texts], dtype=numpy.float32)

    def same(self, got, expected):
        got = numpy.array(got, dtype=numpy.float32)
        self.assertEqual(got.shape, expected.shape)
        numpy.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


reference = clients.reference
