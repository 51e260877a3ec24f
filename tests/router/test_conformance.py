"""The conformance suites of budgets and breakers (tests/unit/router/*_conformance.h) on real servers."""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import start_postgresql, start_redis


class Conformance(unittest.TestCase):
    def suites(self, url):
        for program in ("BUDGET_CONFORMANCE", "BREAKER_CONFORMANCE"):
            r = subprocess.run([os.environ[program]], env={**os.environ, "EMBEDD_TEST_STATE": url}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=300)
            self.assertEqual(r.returncode, 0, r.stdout.decode(errors="replace"))

    def test_sqlite(self):
        with tempfile.TemporaryDirectory(prefix="embedd-state-", dir="/tmp") as folder:
            self.suites("sqlite:%s/state.db" % folder)

    def test_redis(self):
        with start_redis() as redis:
            self.suites(redis.url)

    def test_postgresql(self):
        with start_postgresql() as postgresql:
            self.suites(postgresql.url)


if __name__ == "__main__":
    unittest.main(verbosity=2)
