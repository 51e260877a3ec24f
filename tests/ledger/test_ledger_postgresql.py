"""The ledger in a real PostgreSQL: its suite, an absent and a killed server, lost answers, several processes."""
import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from driver import Driver, Proxy
from servers import Postgresql, start_postgresql, until

FLUSH_MS = 60000


class Ledger(unittest.TestCase):
    def test_conformance(self):
        with start_postgresql() as postgresql:
            r = subprocess.run([os.environ["LEDGER_POSTGRESQL_CONFORMANCE"]],
                               env={**os.environ, "EMBEDD_TEST_POSTGRESQL": postgresql.url}, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=300)
            self.assertEqual(r.returncode, 0, r.stdout.decode(errors="replace"))

    def flushed(self, driver):
        self.assertEqual(driver.do("flush", FLUSH_MS), {"written": True, "up": True})

    def test_lost_answers_count_once(self):
        with start_postgresql() as postgresql, Proxy(postgresql.port) as proxy:
            url = postgresql.url.replace(":%d/" % postgresql.port, ":%d/" % proxy.port)
            with Driver(url) as d:
                d.add(1)
                self.flushed(d)
                spent = 1
                for when in ("after", "before", "after", "after"):
                    proxy.when, proxy.lose = when, 2  # twice in a row
                    before = proxy.lost
                    d.add(1000)
                    d.add(1000, kind="cache", saved=5)
                    spent += 2000
                    until(lambda: proxy.lost == before + 2, "the answers to be lost")
                    d.add(10)
                    spent += 10
                    self.flushed(d)
                    total = d.do("total")
                    self.assertEqual(total["nusd"], spent, (when, total))
                self.assertEqual(total["calls"], 1 + 4 * 3)
            self.assertEqual(int(postgresql.sql("SELECT sum(nusd) FROM embedd_ledger")), spent)

    def test_absent_at_start_and_killed(self):
        with Postgresql(fsync="on", synchronous_commit="on", full_page_writes="on") as postgresql:
            with Driver(postgresql.url) as d:
                self.assertEqual(d.opened["status"], 0)
                d.add(5)
                self.assertEqual(d.do("flush", 300), {"written": False, "up": False})
                postgresql.start()
                self.flushed(d)
                self.assertEqual(d.do("total")["nusd"], 5)
                for n in range(3):
                    d.add(100)
                    self.flushed(d)
                    postgresql.kill()
                    d.add(10)
                    self.assertFalse(d.do("flush", 200)["written"])
                    self.assertEqual(d.do("total")["month"], 5 + (n + 1) * 110)  # without the store
                    postgresql.start()
                    self.flushed(d)
                    total = d.do("total")
                    self.assertEqual((total["nusd"], total["month"]), (5 + (n + 1) * 110,) * 2)

    def test_absent_at_the_end(self):
        """Closing takes its time, but not for ever."""
        with Postgresql() as postgresql, Driver(postgresql.url) as d:
            d.add(5)
            self.assertLess(d.do("close")["ms"], 20000)

    def test_several_processes(self):
        with start_postgresql() as postgresql:
            drivers = [Driver(postgresql.url) for _ in range(4)]
            now = int(time.time())
            for d in drivers:
                d.add(0, at=now)
            for _ in range(5):
                for d in drivers:
                    d.process.stdin.write("flood 4 5000\nflush %d\n" % FLUSH_MS)
                    d.process.stdin.flush()
                for d in drivers:
                    d.process.stdout.readline()
                    self.assertIn('"written":true', d.process.stdout.readline())
            self.assertEqual(drivers[0].do("total")["nusd"], 4 * 5 * 4 * 5000)
            self.assertEqual(int(postgresql.sql("SELECT count(*) FROM embedd_ledger WHERE provider = 'flood'")), 1)
            for d in drivers:
                d.__exit__(None)

    def test_database_without_all_letters(self):
        """What an encoding has not is replaced; it holds nothing up."""
        with start_postgresql() as postgresql:
            postgresql.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
            url = postgresql.url_of("tests", database="latin")
            with Driver(url) as d:
                d.add(3, category="日本")
                d.add(4, category="plain")
                self.flushed(d)
                self.assertEqual(d.do("total")["nusd"], 7)


if __name__ == "__main__":
    unittest.main(verbosity=2)
