"""OpenAI's Node client: openai_client.mjs talks, this checks."""
import base64
import json
import os
import subprocess
import sys
import unittest

import numpy

from clients import MODEL, Case

NODE = os.path.join(os.path.dirname(sys.executable), "node")
FOLDER = os.environ["EMBEDD_TEST_NODE"]


class Node(Case):
    def test_client(self):
        p = subprocess.run([NODE, "openai_client.mjs", self.url], cwd=FOLDER, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=300)
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        out = json.loads(p.stdout)
        texts = ["first text", "second text", "first text"]
        for name in ("plain", "float", "tokens"):
            self.same([d["embedding"] for d in out[name]["data"]], ["hello world"])
        self.same([d["embedding"] for d in out["many"]["data"]], texts)
        self.same([numpy.frombuffer(base64.b64decode(d["embedding"]), dtype="<f4") for d in out["base64"]["data"]], texts)
        self.same([d["embedding"] for d in out["dimensions"]["data"]], ["hello world"], "--dimensions", "64")
        self.assertIn(MODEL, [m["id"] for m in out["models"]])
        self.assertEqual(out["model"]["id"], MODEL)
        self.assertEqual(out["parallel"], [384] * 20)
        self.assertEqual((out["unknown"]["status"], out["unknown"]["code"]), (404, "model_not_found"))
        self.assertEqual((out["empty"]["status"], out["empty"]["param"]), (400, "input"))
        self.assertEqual((out["large"]["status"], out["large"]["param"]), (400, "dimensions"))


if __name__ == "__main__":
    unittest.main()
