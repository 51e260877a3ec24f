"""The gateway alone (make gateway): built as the Makefile says, small, answering through a provider, and clear without one.

    test_gateway_only.py SOURCE BUILD       BUILD: where it is built; kept, so that the next time is quick
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE, WORK = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
sys.path.insert(0, os.path.join(SOURCE, "tests", "support"))
import service  # noqa: E402
import upstream  # noqa: E402

KEY, SMALL = "sk-upstream-secret", "text-embedding-3-small"
LARGEST_BYTES = 5_000_000


def build():
    flags = ["-DCMAKE_%s_COMPILER_LAUNCHER=ccache" % language for language in ("C", "CXX")] if shutil.which("ccache") else []
    p = subprocess.run(["make", "-C", SOURCE, "--no-print-directory", "gateway", "BUILD=" + os.path.join(WORK, "build"),
                        "CMAKE_FLAGS=" + " ".join(flags)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if p.returncode:
        raise SystemExit(p.stdout.decode("utf-8", "replace")[-6000:])
    return os.path.join(WORK, "build-gateway", "embedd")


class GatewayOnly(unittest.TestCase):
    def setUp(self):
        self.up = upstream.Upstream(key=KEY)
        self.addCleanup(self.up.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def environment(self, provider="openai"):
        return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": self.up.base_url("openai"), "EMBEDDING_PROVIDER": provider}

    def run_it(self, *arguments, env=None):
        env = service.clean_environment(dict({"EMBEDD_DATA_DIR": self.folder}, **(env or {})))
        p = subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=env, cwd=self.folder, timeout=60)
        return p.returncode, p.stdout.decode(), p.stderr.decode()

    def test_small(self):
        self.assertLess(os.path.getsize(PROGRAM), LARGEST_BYTES)

    def test_answers_through_a_provider(self):
        with service.Service(env=self.environment(), program=PROGRAM, cwd=self.folder) as s:
            texts = ["one", "two words", "東京", "one"]
            status, headers, a = s.post("/v1/embeddings", {"input": texts, "encoding_format": "float"})
            self.assertEqual(status, 200, a)
            self.assertEqual(headers["x-embedd-provider"], "openai")
            for text, row in zip(texts, a["data"]):
                for got, want in zip(row["embedding"], self.up.vector(SMALL, text)):
                    self.assertAlmostEqual(got, want, places=6)
            self.assertEqual(s.post("/v1/embeddings", {"input": texts})[1]["x-embedd-cached"], "4")
            self.assertEqual(self.up.calls, 1)
            status, _, a = s.post("/v1/embeddings", {"input": "x", "model": "all-MiniLM-L6-v2"})
            self.assertEqual(status, 404, a)
            self.assertIn("no local models", a["error"]["message"])
            status, _, a = s.post("/tokenize", {"inputs": "x", "model": SMALL})
            self.assertEqual(status, 422, a)
            self.assertEqual(s.stop(), 0)

    def test_a_provider_that_is_down(self):
        with service.Service(env=self.environment(), program=PROGRAM, cwd=self.folder) as s:
            self.up.stop_listening()
            status, _, a = s.post("/v1/embeddings", {"input": "x"})
            self.assertEqual(status, 503, a)

    def test_route(self):
        code, out, err = self.run_it("route", "some text", env=self.environment())
        self.assertEqual(code, 0, err)
        self.assertTrue(out.startswith("openai / " + SMALL), out)
        self.assertEqual(self.up.calls, 0)

    def test_without_a_provider(self):
        for env in ({}, self.environment("local")):
            code, _, err = self.run_it("serve", "--listen", "127.0.0.1:0", env=env)
            self.assertEqual(code, 1, err)
            self.assertIn("no local models", err)
            self.assertIn("EMBEDDING_PROVIDER", err)
        code, _, err = self.run_it("embed", "some text")
        self.assertEqual(code, 1)
        self.assertIn("no local models", err)

    def test_what_it_has(self):
        code, out, _ = self.run_it("version")
        self.assertEqual(code, 0)
        self.assertIn("gateway", out)
        commands = self.run_it("help")[1]
        self.assertIn("\n  route ", commands)
        self.assertNotIn("\n  quantize ", commands)


if __name__ == "__main__":
    PROGRAM = build()
    unittest.main(argv=sys.argv[:1])
