"""Budgets and breakers of several processes on one store: exactness, kill -9, a store that freezes and comes back."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import start_postgresql, start_redis, until

OK, BUDGET, UNAVAILABLE = 0, 13, 16
SLACK, AT_BEST = 5000, 900  # ms beyond the deadline: of any call on a busy machine, and of the quickest of several


class Driver:
    def __init__(self, url, reservation_s=120, command_ms=20000):
        self.process = subprocess.Popen([os.environ["STATE_DRIVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self.do("open", url, reservation_s, command_ms)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        if kind is None and code not in (0, -9):
            raise AssertionError("state_driver ended with %d" % code)

    def send(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("state_driver ended with %s" % self.process.wait(60))
        return json.loads(line)

    def do(self, *words):
        self.send(*words)
        return self.receive()


class Processes(unittest.TestCase):
    def storm(self, url):
        """1,000 reserves of 7 by three processes against 76: ten, and everything adds up."""
        with Driver(url) as a, Driver(url) as b, Driver(url) as c:
            three = (a, b, c)
            for d in three:
                self.assertEqual(d.opened["status"], OK)
                d.send("storm", 8, 334, "key:storm", 76, 7)
            results = [d.receive() for d in three]
            self.assertEqual([r["failed"] for r in results], [0, 0, 0])
            self.assertEqual(sum(r["granted"] for r in results), 10)
            self.assertEqual(a.do("read", "key:storm")["reserved"], 70)
            for d in three:
                d.send("settle", 3)
            self.assertEqual(sum(d.receive()["count"] for d in three), 10)
            self.assertEqual(a.do("read", "key:storm"), {"status": OK, "spent": 30, "reserved": 0})
            for d in three:
                d.send("storm", 8, 200, "key:free", 2**63, 2)
            self.assertEqual(sum(d.receive()["granted"] for d in three), 600)
            for d in three:
                d.send("settle", 5)
            self.assertEqual(sum(d.receive()["count"] for d in three), 600)
            self.assertEqual(b.do("read", "key:free"), {"status": OK, "spent": 3000, "reserved": 0})
            self.assertEqual(b.do("read", "global"), {"status": OK, "spent": 3030, "reserved": 0})

    def killed(self, url):
        """Reservations of a process that is killed come back, and one breaker probe is open to others."""
        with Driver(url, reservation_s=4) as a, Driver(url, reservation_s=4) as b:
            self.assertEqual(a.do("reserve", "key:kill", 100, 100)["status"], OK)
            self.assertEqual(b.do("reserve", "key:kill", 100, 1)["status"], BUDGET)
            a.do("call", "openai", "F")
            until(lambda: b.do("view", "openai")["state"] == "open", "the other's opening")
            a.process.kill()
            until(lambda: b.do("reserve", "key:kill", 100, 100)["status"] == OK, "the reservation to come back")
            until(lambda: b.do("call", "openai", "s")["probe"], "the probe")
            self.assertEqual(b.do("view", "openai")["state"], "closed")

    def frozen(self, server):
        with Driver(server.url, command_ms=50) as d:
            until(lambda: d.do("reserve", "key:frozen", 10000, 1)["status"] == OK, "the first")
            self.assertEqual(d.do("call", "openai", "f")["allowed"], 1)
            server.freeze()
            took = []
            for _ in range(5):
                r = d.do("reserve", "key:frozen", 10000, 1)
                self.assertEqual(r["status"], UNAVAILABLE)
                took.append(r["ms"])
            self.assertLess(max(took), 50 + SLACK)
            self.assertLess(min(took), 50 + AT_BEST)
            until(lambda: d.do("up") == {"budget": 0, "breakers": 0}, "both to notice")
            probe = until(lambda: (lambda r: r["allowed"] and r)(d.do("call", "openai", "s")), "a probe on its own account")
            self.assertLess(probe["ms"], 50 + SLACK)
            self.assertEqual(d.do("view", "openai")["state"], "closed")
            server.thaw()
            until(lambda: d.do("up") == {"budget": 1, "breakers": 1}, "both to come back")
            until(lambda: d.do("reserve", "key:frozen", 10000, 1)["status"] == OK, "reserves again")
            # What was in flight when the store froze is taken back, not left until it expires.
            self.assertGreater(d.do("settle", 1)["count"], 1)
            until(lambda: d.do("read", "key:frozen")["reserved"] == 0, "nothing left reserved")

    def all(self, server):
        self.storm(server.url)
        self.killed(server.url)
        self.frozen(server)

    def test_sqlite(self):
        with tempfile.TemporaryDirectory(prefix="embedd-state-", dir="/tmp") as folder:
            url = "sqlite:%s/state.db" % folder
            self.storm(url)
            self.killed(url)

    def test_redis(self):
        with start_redis() as redis:
            self.all(redis)

    def test_redis_that_is_emptied(self):
        with start_redis() as redis, Driver(redis.url) as d:
            d.do("reserve", "key:lost", 100, 60)
            d.do("call", "openai", "F")
            until(lambda: redis.command("HGET", "embedd:breaker:v1:s:openai", "open") == b"1", "the opening")
            redis.command("FLUSHALL")
            self.assertEqual(d.do("settle", 40)["count"], 1)  # its ticket is lost, its money spent all the same
            self.assertEqual(d.do("read", "key:lost"), {"status": OK, "spent": 40, "reserved": 0})
            until(lambda: redis.command("HGET", "embedd:breaker:v1:s:openai", "open") == b"1", "the opening again")
            self.assertEqual(d.do("reserve", "key:lost", 100, 61)["status"], BUDGET)
            self.assertEqual(d.do("reserve", "key:lost", 100, 60)["status"], OK)

    def test_postgresql(self):
        with start_postgresql() as postgresql:
            self.all(postgresql)


if __name__ == "__main__":
    unittest.main(verbosity=2)
