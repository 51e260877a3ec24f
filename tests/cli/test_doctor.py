"""embedd doctor and embedd tune."""
import json
import os
import socket
import sys
import unittest

from harness import Case, MODEL, SANITIZED

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
from servers import hold_port  # noqa: E402
from service import Service  # noqa: E402


class Doctor(Case):
    def free_port(self):
        """Nobody listens on it, and nobody else gets it, until the test ends."""
        holder = hold_port()
        self.addCleanup(holder.close)
        return holder.getsockname()[1]

    def environment(self, **more):
        return {"EMBEDD_DATA_DIR": self.path("data"), "HF_HUB_OFFLINE": "1",
                "EMBEDD_LISTEN": "127.0.0.1:%d" % self.free_port(), **more}

    def checks(self, code=0, **more):
        r = self.run_program("doctor", "--format", "json", env=self.environment(**more))
        self.assertEqual(r.code, code, r.out + r.err)
        document = r.json()
        self.assertEqual(document["healthy"], code == 0)
        return {c["subject"]: c for c in document["checks"]}

    def test_all_is_well(self):
        checks = self.checks()
        self.assertEqual({c["verdict"] for c in checks.values()} - {"note"}, {"ok"}, checks)
        self.assertIn(MODEL, checks["model"]["text"])
        self.assertIn("portable kernels", checks["vectors"]["text"])
        self.assertIn("sqlite answers", checks["cache"]["text"])
        self.assertRegex(self.good("doctor", env=self.environment()).out, r"(?s)^ok .*\nAll is well")

    def test_what_is_wrong_is_named(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = "127.0.0.1:%d" % other.getsockname()[1]
            checks = self.checks(1, EMBEDD_LISTEN=address)
        self.assertEqual(checks["address"]["verdict"], "fail")
        self.assertIn(address, checks["address"]["text"])
        checks = self.checks(1, LOCAL_EMBEDDING_MODEL="no-such-model")
        self.assertIn("no-such-model", checks["model"]["text"])
        checks = self.checks(1, EMBEDD_CACHE_URL="redis://127.0.0.1:%d" % self.free_port())
        self.assertEqual(checks["cache"]["verdict"], "fail")
        checks = self.checks(1, EMBEDD_DATA_DIR="/proc/nowhere")
        self.assertIn("EMBEDD_DATA_DIR", checks["cache"]["text"])

    def test_bad_settings(self):
        r = self.run_program("doctor", env=self.environment(EMBEDD_MAX_INPUTS="x"))
        self.assertEqual(r.code, 2)
        self.assertIn("EMBEDD_MAX_INPUTS", r.err)

    def test_ready(self):
        url = "http://127.0.0.1:%d" % self.free_port()
        r = self.run_program("doctor", "--ready", url)
        self.assertEqual((r.code, r.out.startswith("no answer")), (1, True))
        self.assertEqual(self.run_program("doctor", "--ready", url, "--quiet").out, "")
        with Service() as s:
            self.assertEqual(self.good("doctor", "--ready", s.url + "/").out, "ready\n")
            self.assertIn("embedd is running there",
                          self.checks(EMBEDD_LISTEN=s.url.split("//")[1])["address"]["text"])


class Tune(Case):
    @unittest.skipIf(SANITIZED, "figures of an instrumented program mean nothing")
    def test_measures_and_recommends(self):
        o = self.good("tune", "--seconds", "3", "--tokens", "16", "--format", "json").json()
        self.assertEqual(o["model"], MODEL)
        for name in ("threads", "batch_tokens", "texts_per_request"):
            points = {p["value"]: p["tokens_per_second"] for p in o[name]["measured"]}
            self.assertGreater(min(points.values()), 0)
            best = points[o[name]["best"]]
            self.assertGreaterEqual(best, 0.94 * max(points.values()))
            smaller = [v for k, v in points.items() if k < o[name]["best"]]
            self.assertFalse([v for v in smaller if v > best * 1.06], "a smaller value that is faster wins")

    def test_threads_that_are_given_stay(self):
        o = self.good("tune", "--seconds", "1", "--threads", "1", "--tokens", "8", "--format", "json").json()
        self.assertEqual([p["value"] for p in o["threads"]["measured"]], [1])


if __name__ == "__main__":
    unittest.main()
