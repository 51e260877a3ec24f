"""The conformance suite of the cache's second level (tests/unit/cache/l2_conformance.h) on real servers."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import start_postgresql, start_redis


class Conformance(unittest.TestCase):
    def suite(self, program, variable, url):
        r = subprocess.run([os.environ[program]], env={**os.environ, variable: url}, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=300)
        self.assertEqual(r.returncode, 0, r.stdout.decode(errors="replace"))

    def test_redis(self):
        with start_redis() as redis:
            redis.command("SELECT", 0)
            self.suite("L2_REDIS_CONFORMANCE", "EMBEDD_TEST_REDIS", redis.url)

    def test_redis_by_socket_with_password(self):
        with start_redis() as redis:
            redis.command("CONFIG", "SET", "requirepass", "p@ss/word")
            redis.password = "p@ss/word"
            self.suite("L2_REDIS_CONFORMANCE", "EMBEDD_TEST_REDIS", "unix://:p%%40ss%%2Fword@%s?db=3" % redis.socket_path)
            self.assertEqual(redis.command("DBSIZE"), 0)  # all of it was done in database 3

    def test_postgresql(self):
        with start_postgresql() as postgresql:
            self.suite("L2_POSTGRESQL_CONFORMANCE", "EMBEDD_TEST_POSTGRESQL", postgresql.url)


if __name__ == "__main__":
    unittest.main(verbosity=2)
