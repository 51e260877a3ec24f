"""Comparisons in a real PostgreSQL: the suite of tests/unit/shadow/shadow_conformance.h, and a server that goes away."""
import json
import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import start_postgresql, until


class Driver:
    def __init__(self, url):
        self.process = subprocess.Popen([os.environ["SHADOW_DRIVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.do("open", url)["ok"]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        if kind is None and code != 0:  # a sanitizer's report stands on stderr
            raise AssertionError("shadow_driver ended with %d" % code)

    def do(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("shadow_driver ended with %s" % self.process.wait(60))
        return json.loads(line)


class PostgreSQL(unittest.TestCase):
    def test_conformance(self):
        with start_postgresql() as postgresql:
            r = subprocess.run([os.environ["SHADOW_POSTGRESQL_CONFORMANCE"]],
                               env={**os.environ, "EMBEDD_TEST_POSTGRESQL": postgresql.url}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=300)
            self.assertEqual(r.returncode, 0, r.stdout.decode(errors="replace"))

    def test_service(self):
        """Two processes write, any process reports; no text is in the database."""
        with start_postgresql() as postgresql, Driver(postgresql.url) as one, Driver(postgresql.url) as two:
            for driver in (one, two):
                self.assertEqual(driver.do("submit", 150)["accepted"], 150)
                self.assertTrue(driver.do("flush", 60000)["ok"])
            for driver in (one, two):
                self.assertEqual(driver.do("report"), {"ok": True, "comparisons": 300, "dropped": 0, "cosine": 1.0,
                                                       "overlap": 1.0})
            rows = postgresql.sql("SELECT string_agg(t::text, ' ') FROM embedd_shadow t")
            self.assertIn("candidate", rows)
            self.assertNotIn("text 7", rows)
            self.assertIn("report", self.report(postgresql.url))

    def report(self, url):
        """The command, on the same store."""
        r = subprocess.run([os.environ["EMBEDD"], "shadow", "report", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={"PATH": os.environ["PATH"], "EMBEDD_STORE_URL": url}, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        answer = json.loads(r.stdout)
        self.assertEqual(answer["comparisons"], 300)
        self.assertEqual(answer["neighbour_overlap"]["mean"], 1.0)
        return "report"

    def test_server_away(self):
        """Comparing goes on, what cannot be stored is given up, and storing goes on once the server is back."""
        with start_postgresql() as postgresql, Driver(postgresql.url) as driver:
            self.assertEqual(driver.do("submit", 10)["accepted"], 10)
            self.assertTrue(driver.do("flush", 60000)["ok"])
            postgresql.kill()
            self.assertEqual(driver.do("submit", 10)["accepted"], 10)
            self.assertTrue(driver.do("flush", 60000)["ok"])
            self.assertFalse(driver.do("report")["ok"])
            postgresql.start()

            def stored_again():
                driver.do("submit", 1)
                driver.do("flush", 60000)
                answer = driver.do("report")
                return answer["ok"] and answer["comparisons"] > 10
            until(stored_again, "comparisons to be stored again", step=0.2)

    def test_server_frozen(self):
        """Neither submitting nor closing waits for a server that does not answer."""
        with start_postgresql() as postgresql, Driver(postgresql.url) as driver:
            driver.do("submit", 1)
            self.assertTrue(driver.do("flush", 60000)["ok"])
            postgresql.freeze()
            start = time.monotonic()
            self.assertEqual(driver.do("submit", 1000)["accepted"], 1000)
            self.assertLess(time.monotonic() - start, 10)  # a thousand waits for the server would be minutes
            self.assertLess(driver.do("close")["ms"], 15000)
            postgresql.thaw()


if __name__ == "__main__":
    unittest.main(verbosity=2)
