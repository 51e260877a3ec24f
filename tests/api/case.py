"""What the tests of routes share: one running embedd for a class, and short ways to ask it."""
import base64
import json
import os
import subprocess
import sys
import unittest

import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import service  # noqa: E402

MODEL = "all-MiniLM-L6-v2"


class Case(unittest.TestCase):
    ENV = {}

    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(env=dict({"EMBEDD_CACHE_URL": "none"}, **cls.ENV))

    @classmethod
    def tearDownClass(cls):
        cls.service.close()

    def ask(self, method, path, body=None, status=200, **headers):
        """The answer's body; its status is checked; its headers are left in self.headers."""
        got, self.headers, answer = self.service.request(method, path, body,
                                                         headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(got, status, "%s %s %.300r: %.600r" % (method, path, body, answer))
        return answer

    def post(self, path, body, status=200, **headers):
        return self.ask("POST", path, body, status, **headers)

    def get(self, path, status=200, **headers):
        return self.ask("GET", path, None, status, **headers)

    def openai(self, texts, **more):
        """Vectors as float32 rows, from floats or base64."""
        answer = self.post("/v1/embeddings", dict(more, input=texts))
        self.assertEqual([d["index"] for d in answer["data"]], list(range(len(answer["data"]))))
        return rows(d["embedding"] for d in answer["data"])


def rows(embeddings):
    out = []
    for e in embeddings:
        out.append(numpy.frombuffer(base64.b64decode(e, validate=True), dtype="<f4") if isinstance(e, str)
                   else numpy.array(e, dtype=numpy.float32))
    return numpy.array(out, dtype=numpy.float32)


def command_line(texts, *options):
    """What `embedd embed` says of the same texts."""
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    done = subprocess.run([service.PROGRAM, "embed", "--model", MODEL, "--input", "-", "--input-format", "jsonl", "--format", "jsonl",
                           *options], input=lines.encode(), stdout=subprocess.PIPE, check=True,
                          env=service.clean_environment())
    return rows(json.loads(line)["embedding"] for line in done.stdout.splitlines())
