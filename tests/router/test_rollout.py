"""The suite of the rollout (tests/unit/router/rollout_suite.h) on a real PostgreSQL."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import start_postgresql


class Rollout(unittest.TestCase):
    def test_postgresql(self):
        with start_postgresql() as postgresql:
            r = subprocess.run([os.environ["ROLLOUT_TEST"]], env={**os.environ, "EMBEDD_TEST_POSTGRESQL": postgresql.url},
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
            self.assertEqual(r.returncode, 0, r.stdout.decode(errors="replace"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
