"""What Redis and PostgreSQL may do to us: absent, killed, frozen, restarted, full, read-only, at their limits."""
import os
import re
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from driver import DEADLINE, INVALID, IO, OK, SLACK, CountingProxy, Driver
from servers import Postgresql, Redis, start_postgresql, start_redis, until


class Common:
    """The same for both; `make` gives a server that is not started."""

    def wait_ok(self, driver):
        until(lambda: driver.get()["status"] == OK, "the store to work again")

    def check_all_there(self, driver):
        got = driver.get(deadline_ms=5000)
        self.assertEqual((got["status"], got["found"], got["wrong"]), (OK, 20, 0), got)

    def test_absent_at_start(self):
        with self.make() as server:
            with Driver(server.url) as d:
                self.assertEqual(d.opened["status"], OK)
                for _ in range(3):
                    got = d.get(deadline_ms=500)
                    self.assertIn(got["status"], (IO, DEADLINE))
                    self.assertLess(got["ms"], 500 + SLACK)
                    self.assertIn(str(server.port), got["message"])
                server.start()
                self.wait_ok(d)
                self.assertEqual(d.put()["status"], OK)
                self.check_all_there(d)

    def test_killed_while_in_use(self):
        with self.make() as server:
            server.start()
            with Driver(server.url) as d:
                d.put()
                d.send("flood", 8, 4000, 100)
                time.sleep(1)  # in the midst of it: seconds on either side
                server.kill()
                flood = d.receive()
                self.assertGreater(flood["ok"], 0)
                self.assertGreater(flood["failed"], 0)
                self.assertEqual(flood["wrong"], 0)
                self.assertLess(flood["worst"], 100 + SLACK)
                server.start()
                self.wait_ok(d)

    def test_frozen(self):
        with self.make() as server:
            server.start()
            with Driver(server.url) as d:
                d.put()
                self.check_all_there(d)
                d.send("flood", 8, 4000, 50)
                time.sleep(1)
                server.freeze()
                flood = d.receive()
                self.assertGreater(flood["late"], 8)
                self.assertEqual(flood["wrong"], 0)
                self.assertLess(flood["worst"], 50 + SLACK)
                for command in (("put", 0, 5, 100, 0), ("stats", 100), ("remove", "m", 100), ("most", 5, 100), ("tidy", 100)):
                    got = d.do(*command)
                    self.assertLess(got["ms"], 100 + SLACK, command)
                    if command[0] != "tidy":
                        self.assertEqual(got["status"], DEADLINE, command)
                        self.assertTrue(got["message"].strip())
                server.thaw()
                self.wait_ok(d)
                self.assertEqual(d.put()["status"], OK)
                self.check_all_there(d)

    def test_frozen_at_start_and_at_the_end(self):
        with self.make() as server:
            server.start()
            server.freeze()
            with Driver(server.url, connect_ms=60000) as d:
                got = d.get()
                self.assertEqual(got["status"], DEADLINE)
                self.assertLess(got["ms"], 50 + SLACK)
                closed = d.do("close")  # while a connection is being made that would take a minute
                self.assertLess(closed["ms"], 1000 + SLACK)
            server.thaw()

    def test_restarted(self):
        with self.make() as server:
            server.start()
            with Driver(server.url) as d:
                d.put()
                d.do("flood", 8, 100, 2000)  # several idle connections
                server.stop()
                server.start()
                got = d.get(deadline_ms=5000)  # none of them is taken for alive
                self.assertEqual(got["status"], OK, got)
                self.assertEqual(d.put()["status"], OK)
                self.check_all_there(d)

    def test_a_hundred_keys_are_one_round_trip(self):
        with self.make() as server:
            server.start()
            with CountingProxy(server.port) as proxy, Driver(server.url.replace(str(server.port), str(proxy.port))) as d:
                self.assertEqual(d.put(0, 100)["status"], OK)
                d.get(0, 1, deadline_ms=5000)  # the connection, and the statement
                got, trips = proxy.count(lambda: d.get(0, 100, deadline_ms=5000))
                self.assertEqual((got["found"], got["wrong"]), (100, 0))
                self.assertEqual(trips, 1)
                got, trips = proxy.count(lambda: d.get(50, 500, deadline_ms=5000))
                self.assertEqual((got["found"], trips), (50, 1))
                put, trips = proxy.count(lambda: d.put(1000, 10))  # of more, Redis answers the first before the last is there
                self.assertEqual((put["status"], trips), (OK, 1))
                self.assertLessEqual(proxy.connections, 2)

    def test_removal_that_runs_out_of_time(self):
        with self.make() as server:
            server.start()
            with Driver(server.url) as d:
                for first in range(0, 30000, 5000):
                    self.assertEqual(d.put(first, 5000, 30000)["status"], OK)
                total, partial = 0, None
                for ms in (4, 8, 16, 32, 64, 60000):
                    got = d.do("remove", "m", ms)
                    total += got["count"]
                    if got["status"] == OK:
                        break
                    self.assertEqual(got["status"], DEADLINE, got)
                    if got["count"]:
                        partial = got
                self.assertEqual(got["status"], OK, got)
                self.assertEqual(d.do("stats", 5000)["count"], 0)
                # an answer that was lost may have removed without being counted
                self.assertLessEqual(total, 30000)
                if partial:
                    self.assertIn("%d entries were removed" % partial["count"], partial["message"])


class RedisFaults(Common, unittest.TestCase):
    make = staticmethod(Redis)

    def test_full(self):
        with start_redis("--maxmemory-policy", "noeviction") as redis, Driver(redis.url) as d:
            d.put()
            d.get(deadline_ms=5000)
            redis.command("CONFIG", "SET", "maxmemory", "1mb")
            put = d.put(100, 500)
            self.assertEqual(put["status"], IO)
            self.assertIn("full", put["message"])
            self.check_all_there(d)
            redis.command("CONFIG", "SET", "maxmemory", "0")
            self.assertEqual(d.put(100, 500)["status"], OK)

    def test_read_only_replica(self):
        with start_redis("--repl-diskless-sync-delay", "0") as master, start_redis() as redis, Driver(redis.url) as d:
            master.command("SET", "foreign", "1")
            d.put()
            with Driver(master.url) as other:
                other.put()
            redis.command("REPLICAOF", "127.0.0.1", master.port)
            until(lambda: redis.command("GET", "foreign") == b"1", "the replica to follow")
            self.check_all_there(d)
            put = d.put(100, 5)
            self.assertEqual(put["status"], IO)
            self.assertIn("read-only", put["message"])
            self.check_all_there(d)
            self.assertEqual(d.do("most", 5, 5000)["status"], OK)
            redis.command("REPLICAOF", "NO", "ONE")
            self.assertEqual(d.put(100, 5)["status"], OK)

    def test_cannot_save(self):
        with start_redis("--stop-writes-on-bgsave-error", "yes") as redis, Driver(redis.url) as d:
            d.put()
            redis.command("CONFIG", "SET", "save", "3600 1")
            redis.command("CONFIG", "SET", "min-replicas-to-write", "1")
            put = d.put()
            self.assertEqual(put["status"], IO)
            self.assertIn("too few replicas", put["message"])
            self.check_all_there(d)

    def test_passwords(self):
        with start_redis() as redis:
            redis.command("ACL", "SETUSER", "reader", "on", ">s3cret/pw", "~embed:v1:*", "+@all")
            redis.command("CONFIG", "SET", "requirepass", "master-pw")
            redis.password = "master-pw"
            host = "127.0.0.1:%d" % redis.port
            for user, word in (("", "password"), ("reader:wrong-pw@", "does not accept"), (":wrong-pw@", "does not accept")):
                with Driver("redis://%s%s" % (user, host)) as d:
                    got = d.get(deadline_ms=5000)
                    self.assertEqual(got["status"], IO)
                    self.assertIn(word, got["message"])
                    self.assertNotIn("wrong-pw", got["message"])
                    self.assertNotIn("reader", got["message"])
            for user in ("reader:s3cret%2Fpw", ":master-pw"):
                with Driver("redis://%s@%s/0" % (user, host)) as d:
                    self.assertEqual(d.put()["status"], OK)
                    self.check_all_there(d)

    def test_password_given_and_none_set(self):
        """Users of Redis 6 know only "default" without a password, which takes any."""
        with start_redis() as redis, Driver("redis://nobody:top-secret@127.0.0.1:%d" % redis.port) as d:
            got = d.get(deadline_ms=5000)
            self.assertEqual(got["status"], IO)
            self.assertNotIn("top-secret", got["message"])
            self.assertNotIn("nobody", got["message"])

    def test_commands_forbidden(self):
        with start_redis() as redis:
            redis.command("ACL", "SETUSER", "narrow", "on", ">pw", "~embed:v1:*", "+mget")
            with Driver("redis://narrow:pw@127.0.0.1:%d" % redis.port) as d:
                self.assertEqual(d.get(deadline_ms=5000)["status"], OK)
                put = d.put()
                self.assertEqual(put["status"], IO)
                self.assertIn("permit", put["message"])

    def test_the_rights_that_the_documentation_names(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "operation.md")) as f:
            rights = re.search(r"`(~embed:v1:\*[^`]*)`", f.read()).group(1).split()
        with start_redis() as redis:
            redis.command("ACL", "SETUSER", "cache", "on", ">pw", *rights)
            with Driver("redis://cache:pw@127.0.0.1:%d" % redis.port) as d:
                self.assertEqual(d.put(0, 50, ttl_s=100)["status"], OK)
                d.put(50, 1200)
                self.check_all_there(d)
                most = d.do("most", 2000, 5000)
                self.assertEqual((most["status"], most["count"]), (OK, 1250))
                redis.command("DEL", *redis.command("ZRANGE", "embed:v1:uses", 0, 3))
                for command in (("stats", 5000), ("tidy", 5000), ("most", 10, 5000), ("remove", "m", 5000), ("remove", "-", 5000)):
                    self.assertEqual(d.do(*command)["status"], OK, command)
            refused = [e[e.index(b"object") + 1] for e in redis.command("ACL", "LOG")]
            self.assertEqual(refused, [])

    def test_no_such_database(self):
        with start_redis("--databases", "2") as redis, Driver("redis://127.0.0.1:%d/7" % redis.port) as d:
            got = d.get(deadline_ms=5000)
            self.assertEqual(got["status"], IO)
            self.assertIn("DB index", got["message"])

    def test_connection_limit(self):
        with start_redis() as redis:
            with Driver(redis.url) as d:
                d.put()
                own = redis.connect()
                own.command("CONFIG", "SET", "maxclients", "2")  # ours and the test's
                flood = d.do("flood", 6, 500, 2000)
                self.assertEqual(flood["ok"], flood["calls"], flood)  # they share the one that there is
                with Driver(redis.url) as other:
                    got = other.get(deadline_ms=2000)
                    self.assertEqual(got["status"], IO)
                    self.assertIn("max number of clients", got["message"])
                own.command("CONFIG", "SET", "maxclients", "100")
                own.__exit__()
                with Driver(redis.url) as other:
                    self.wait_ok(other)

    def test_loading(self):
        """A server that loads its data says so; it is told from one that is down, and waited for."""
        with start_redis("--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024") as redis, \
                Driver(redis.url) as d:
            d.put(0, 5000, 30000)
            redis.command("CONFIG", "SET", "key-load-delay", "300")  # microseconds
            thread = threading.Thread(target=redis.command, args=("DEBUG", "RELOAD"))
            thread.start()
            seen = until(lambda: (lambda g: g if "loading" in g["message"] else None)(d.get(deadline_ms=1000)),
                         "the message that it is loading")
            self.assertEqual(seen["status"], IO)
            thread.join()
            self.wait_ok(d)
            self.check_all_there(d)

    def test_nothing_else_is_touched(self):
        with start_redis() as redis, Driver(redis.url) as d:
            others = {b"embed:v1": b"1", b"embed:v2:x": b"2", b"x": b"3", b"embed:v1:%s" % (b"zz" * 32): b"4",
                      b"embed:v1:short": b"5"}
            for name, value in others.items():
                redis.command("SET", name, value)
            redis.command("RPUSH", "list", "a", "b")
            d.put(0, 300, ttl_s=100)
            d.get(0, 300, 5000)
            d.do("tidy", 5000)
            self.assertEqual(d.do("remove", "-", 5000)["count"], 300)
            self.assertEqual({name: redis.command("GET", name) for name in others}, others)
            self.assertEqual(redis.command("LRANGE", "list", 0, -1), [b"a", b"b"])
            self.assertEqual(redis.command("DBSIZE"), len(others) + 1)

    def test_layout(self):
        """What an operator sees: names, time limits, uses; the set of uses is bounded."""
        with start_redis() as redis, Driver(redis.url) as d:
            d.put(0, 10, ttl_s=100)
            names = redis.command("KEYS", "embed:v1:*")
            entries = [n for n in names if re.fullmatch(rb"embed:v1:[0-9a-f]{64}", n)]
            self.assertEqual(len(entries), 10)
            self.assertTrue(all(0 < redis.command("PTTL", n) <= 100000 for n in entries))
            d.put(0, 10)
            self.assertTrue(all(redis.command("PTTL", n) == -1 for n in entries))
            for first in range(10, 105000, 5000):
                d.put(first, 5000, 30000, 1000)
            self.assertLessEqual(redis.command("ZCARD", "embed:v1:uses"), 107000)

    def test_wrong_types_under_our_names(self):
        with start_redis() as redis, Driver(redis.url) as d:
            d.put(0, 3)
            names = [n for n in redis.command("KEYS", "embed:v1:*") if len(n) == 73]
            redis.command("DEL", names[0], "embed:v1:uses")
            redis.command("RPUSH", names[0], "x")
            redis.command("SET", "embed:v1:uses", "x")
            redis.command("SET", names[1], "EMR1\xff\xff")
            got = d.get(0, 3, 5000)
            self.assertEqual((got["status"], got["found"], got["wrong"]), (OK, 2, 1))  # the cache refuses what is wrong
            self.assertEqual(d.put(0, 3)["status"], OK)
            got = d.get(0, 3, 5000)
            self.assertEqual((got["status"], got["found"], got["wrong"]), (OK, 3, 0))


class PostgresqlFaults(Common, unittest.TestCase):
    make = staticmethod(Postgresql)

    @classmethod
    def setUpClass(cls):
        cls.shared = start_postgresql(max_connections=14, superuser_reserved_connections=3)

    @classmethod
    def tearDownClass(cls):
        cls.shared.close()

    def setUp(self):
        self.server = type(self).shared
        self.server.sql("DROP TABLE IF EXISTS embedd_cache, embedd_cache_uses, embedd_schema")

    def test_read_only(self):
        with Driver(self.server.url + "?options=-cdefault_transaction_read_only%3Don") as early:
            got = early.get(deadline_ms=5000)
            self.assertEqual(got["status"], IO)
            self.assertIn("read-only", got["message"])
            with Driver(self.server.url) as d:
                d.put()
            self.check_all_there(early)  # the tables are there now
            put = early.put(100, 5)
            self.assertEqual(put["status"], IO)
            self.assertIn("read-only", put["message"])
            self.check_all_there(early)
            self.assertEqual(early.do("most", 5, 5000)["count"], 5)

    def test_role_without_rights(self):
        self.server.sql("DROP ROLE IF EXISTS narrow")
        self.server.sql("CREATE ROLE narrow LOGIN")
        url = self.server.url_of("narrow", "very-secret")
        with Driver(url) as early:
            got = early.get(deadline_ms=5000)
            self.assertEqual(got["status"], IO)
            self.assertIn("permit", got["message"])
            self.assertNotIn("very-secret", got["message"])
            with Driver(self.server.url) as d:
                d.put()
            self.assertIn("permit", early.get(deadline_ms=5000)["message"])
            self.server.sql("GRANT SELECT ON embedd_schema, embedd_cache TO narrow")
            self.check_all_there(early)
            self.assertIn("permit", early.put()["message"])
            self.check_all_there(early)

    def test_no_such_user_or_database(self):
        for url in (self.server.url_of("stranger", "hunter2"), self.server.url_of("tests", database="nowhere")):
            with Driver(url) as d:
                got = d.get(deadline_ms=5000)
                self.assertEqual(got["status"], IO)
                self.assertIn("does not exist", got["message"])
                self.assertNotIn("stranger", got["message"])
                self.assertNotIn("hunter2", got["message"])

    def test_connection_limit(self):
        self.server.sql("DROP ROLE IF EXISTS few")
        self.server.sql("CREATE ROLE few LOGIN SUPERUSER CONNECTION LIMIT 1")
        self.server.sql("ALTER ROLE few NOSUPERUSER")
        with Driver(self.server.url) as d:
            d.put()
        self.server.sql("GRANT SELECT ON embedd_schema, embedd_cache TO few")
        with Driver(self.server.url_of("few")) as d:
            self.check_all_there(d)
            flood = d.do("flood", 6, 500, 2000)
            self.assertEqual(flood["ok"], flood["calls"], flood)  # they share the one that there is
            with Driver(self.server.url_of("few")) as other:
                got = other.get(deadline_ms=2000)
                self.assertNotEqual(got["status"], OK)
                self.assertIn("too many connections", got["message"])
        with Driver(self.server.url_of("few")) as other:
            self.wait_ok(other)

    def test_locked_table(self):
        """Readers behind a lock leave in time, and what they began does not pile up in the server."""
        with Driver(self.server.url) as d:
            d.put()
            self.check_all_there(d)
            lock = subprocess.Popen([os.path.join(self.server.programs, "psql"), "-h", "127.0.0.1", "-p", str(self.server.port),
                                     "-U", "tests", "-d", "postgres", "-X", "-q"], stdin=subprocess.PIPE, text=True,
                                    stdout=subprocess.DEVNULL)
            try:
                lock.stdin.write("BEGIN; LOCK TABLE embedd_cache IN ACCESS EXCLUSIVE MODE;\n")
                lock.stdin.flush()
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'embedd' AND wait_event_type = 'Lock'"
                until(lambda: self.server.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted "
                                              "AND relation = 'embedd_cache'::regclass") == "1", "the lock")
                for _ in range(4):
                    got = d.get()
                    self.assertEqual(got["status"], DEADLINE, got)
                    self.assertLess(got["ms"], 50 + SLACK)
                until(lambda: self.server.sql(waiting) == "0", "the server to end what nobody waits for")
            finally:
                lock.stdin.close()
                lock.wait()
            self.wait_ok(d)

    def test_terminated_sessions(self):
        with Driver(self.server.url) as d:
            d.put()
            d.do("flood", 6, 100, 2000)
            self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'embedd'")
            until(lambda: self.server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'embedd'") == "0",
                  "the sessions to end")
            self.assertEqual(d.get(deadline_ms=5000)["status"], OK)

    def test_many_processes_start_at_once(self):
        for _ in range(3):
            self.server.sql("DROP TABLE IF EXISTS embedd_cache, embedd_cache_uses, embedd_schema")
            drivers = [Driver(self.server.url) for _ in range(6)]
            for i, d in enumerate(drivers):
                d.send("put", 10 * i, 20, 20000, 0)
            answers = [d.receive() for d in drivers]
            self.assertEqual([a["status"] for a in answers], [OK] * 6, answers)
            for d in drivers:
                d.__exit__(None)
            self.assertEqual(self.server.sql("SELECT count(*) FROM embedd_cache"), "70")
            self.assertEqual(self.server.sql("SELECT name, version FROM embedd_schema"), "embedd_cache|1")

    def test_tables_of_a_newer_version(self):
        with Driver(self.server.url) as d:
            d.put()
        self.server.sql("UPDATE embedd_schema SET version = 99")
        with Driver(self.server.url) as d:
            got = d.get(deadline_ms=5000)
            self.assertNotEqual(got["status"], OK)
            self.assertIn("newer embedd", got["message"])
        self.assertEqual(self.server.sql("SELECT count(*) FROM embedd_cache"), "20")

    def test_tables_dropped_while_running(self):
        with Driver(self.server.url) as d:
            d.put()
            self.server.sql("DROP TABLE embedd_cache, embedd_cache_uses, embedd_schema")
            self.wait_ok(d)
            self.assertEqual(d.put()["status"], OK)
            self.check_all_there(d)

    def test_other_encoding_and_schema(self):
        self.server.sql("DROP DATABASE IF EXISTS old")
        self.server.sql("CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        with Driver(self.server.url_of("tests", database="old")) as d:
            self.assertEqual(d.put()["status"], OK)
            self.check_all_there(d)
        self.server.sql("CREATE SCHEMA IF NOT EXISTS elsewhere")
        with Driver(self.server.url + "?options=-csearch_path%3Delsewhere") as d:
            self.assertEqual(d.put(0, 7)["status"], OK)
        self.assertEqual(self.server.sql("SELECT count(*) FROM elsewhere.embedd_cache"), "7")
        self.server.sql("DROP SCHEMA elsewhere CASCADE")

    def test_values_that_it_does_not_take(self):
        """Told from a server that is sick: it would be no use to try again."""
        with Driver(self.server.url) as d:
            d.put()
            self.server.sql("ALTER TABLE embedd_cache ADD CONSTRAINT small CHECK (octet_length(embedding) < 100) NOT VALID")
            put = d.put(100, 5)
            self.assertEqual(put["status"], INVALID)
            self.assertIn("does not take these values", put["message"])
            self.check_all_there(d)

    def test_tidy(self):
        with Driver(self.server.url) as d:
            d.put(0, 2500, 20000, 1)
            d.put(3000, 5)
            d.get(0, 20, 5000)
            d.do("tidy", 20000)  # uses are written
            until(lambda: d.get(0, 20, 5000)["found"] == 0, "entries to expire")
            self.assertEqual(d.do("stats", 5000)["count"], 5)
            self.assertEqual(d.do("tidy", 20000)["status"], OK)
            self.assertEqual(self.server.sql("SELECT count(*) FROM embedd_cache"), "5")
            self.assertEqual(self.server.sql("SELECT count(*) FROM embedd_cache_uses"), "0")

    def test_statistics_of_a_large_table(self):
        with Driver(self.server.url) as d:
            for first in range(0, 20000, 5000):
                d.put(first, 5000, 20000)
            stats = d.do("stats", 5000)  # of a quarter of its pages
            self.assertAlmostEqual(stats["count"], 20000, delta=3000)
            self.assertAlmostEqual(stats["bytes"], 20000 * 1576, delta=3000 * 1576)

    def test_columns_say_what_is_in_an_entry(self):
        with Driver(self.server.url) as d:
            d.put(5, 1, ttl_s=3600)
            row = self.server.sql("SELECT model, dimension, tokens, octet_length(embedding), octet_length(cache_key), text IS NULL, "
                                  "expires_at > now() + interval '59 minutes' FROM embedd_cache")
            self.assertEqual(row, "m|384|1|1576|32|t|t")


if __name__ == "__main__":
    unittest.main(verbosity=2)
