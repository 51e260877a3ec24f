"""What the tests of the gateway share: a scripted upstream, and an embedd in front of it.

    class Routing(Case):
        def test_it(self):
            g = self.gateway(env={...}, yaml="...")      # closed at the end of the test
            g.post("/v1/embeddings", {...})
            self.up.calls
"""
import base64
import os
import shutil
import sys
import tempfile
import unittest

import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "support"))
import service  # noqa: E402
import upstream  # noqa: E402
import upstream_faults as faults  # noqa: E402,F401

KEY = "sk-upstream-secret"
SMALL = "text-embedding-3-small"
LOCAL = "all-MiniLM-L6-v2"


def rows(embeddings):
    return numpy.array([numpy.frombuffer(base64.b64decode(e), dtype="<f4") if isinstance(e, str)
                        else numpy.array(e, dtype=numpy.float32) for e in embeddings], dtype=numpy.float32)


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.up = upstream.Upstream()
        self.addCleanup(self.up.close)

    def openai(self, **more):
        """The environment in which the upstream is OpenAI."""
        return dict({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": self.up.base_url("openai"),
                     "OPENAI_EMBEDDING_MAX_RETRIES": "0"}, **more)

    def gateway(self, env=None, yaml=None, **more):
        arguments = []
        if yaml is not None:
            folder = tempfile.mkdtemp(prefix="embedd-gateway-")
            self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
            path = os.path.join(folder, "embedd.yaml")
            with open(path, "w") as f:
                f.write(yaml)
            os.chmod(path, 0o600)
            arguments = ["--config", path]
        g = service.Service(*arguments, env=env if env is not None else self.openai(), **more)
        self.addCleanup(self.close_gateway, g)
        return g

    def close_gateway(self, g):
        """Every end but a kill is a good one, and a sanitizer has nothing to say."""
        g.close()
        said = [l for l in g.lines if isinstance(l, str) and ("Sanitizer" in l or "runtime error" in l)]
        self.assertEqual(said, [], g.lines[-60:])
        self.assertIn(g.process.returncode, (0, -9), g.lines[-5:])

    def ask(self, g, body, status=200, path="/api/v1/embeddings", **headers):
        got, self.headers, answer = g.post(path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(got, status, "%s %.300r: %.900r" % (path, body, answer))
        return answer

    def expect(self, model, texts, dimension=None):
        return numpy.array([self.up.vector(model, t, dimension) for t in texts], dtype=numpy.float32)

    def same(self, got, expected):
        numpy.testing.assert_allclose(rows(got), expected, rtol=0, atol=1e-6)
