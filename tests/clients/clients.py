"""What the tests of official clients share: one running embedd for a test file, and vectors from the command line to compare
with."""
import json
import os
import subprocess
import sys
import unittest

import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
from service import PROGRAM, ROOT, Service, clean_environment, until  # noqa: E402,F401

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["hello world", "a man plays guitar", "naïve café 東京", "hello world", "x " * 50]


def reference(texts, *options):
    """The vectors that `embedd embed` gives."""
    p = subprocess.run([PROGRAM, "embed", "--format", "jsonl", "--input", "-", "--input-format", "jsonl", *options],
                       input="".join(json.dumps({"text": t}) + "\n" for t in texts).encode(), stdout=subprocess.PIPE,
                       env=clean_environment(), check=True)
    return numpy.array([json.loads(l)["embedding"] for l in p.stdout.splitlines()], dtype=numpy.float32)


class Case(unittest.TestCase):
    ENV = {}
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        for name in [k for k in os.environ if k.lower().endswith("_proxy")]:
            os.environ.pop(name)
        cls.service = Service(env=cls.ENV)
        cls.addClassCleanup(cls.service.close)
        cls.url = cls.service.url

    def same(self, got, texts, *options):
        got, want = numpy.array(got, dtype=numpy.float32), reference(texts, *options)
        self.assertEqual(got.shape, want.shape)
        numpy.testing.assert_array_equal(got, want)
