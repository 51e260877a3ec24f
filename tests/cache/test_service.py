"""`embedd serve` on Redis and PostgreSQL: what is stored is shared, and a sick store never holds a request."""
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from servers import Postgresql, Redis
from service import SANITIZED, Service, until

# A request may wait 50 ms for the store (EMBEDD_L2_DEADLINE_MS); the rest is the machine's, which may be busy: so any may be
# slow, but not all of a row.
SLOW, AT_BEST = 20.0, 5.0 if SANITIZED else 1.0


class Common:
    def serve(self, server, **more):
        url = more.pop("url", None) or server.url
        return Service(env={"EMBEDD_CACHE_URL": url, **more})

    def embed(self, service, *texts):
        start = time.monotonic()
        status, _, body = service.post("/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": list(texts)})
        took = time.monotonic() - start
        self.assertEqual(status, 200, body)
        return [item["embedding"] for item in body["data"]], took

    def cache(self, service):
        status, _, body = service.get("/api/v1/embeddings/health")
        self.assertEqual(status, 200)
        return body

    def is_up(self, service):
        body = self.cache(service)
        self.assertEqual(body["status"], "healthy" if body["cache"]["l2_up"] else "degraded")
        return body["cache"]["l2_up"]

    def stats(self, service):
        status, _, body = service.get("/api/v1/embeddings/cache")
        self.assertEqual(status, 200)
        return body["l2"]

    def test_shared_and_kept(self):
        texts = ["shared text %d" % i for i in range(40)]
        with self.make() as server:
            server.start()
            with self.serve(server) as one:
                vectors, _ = self.embed(one, *texts)
                until(lambda: self.stats(one)["stored"] >= 40, "the vectors to be stored")
                with self.serve(server) as two:  # a replica
                    again, _ = self.embed(two, *texts[:25], "another")
                    self.assertEqual(again[:25], vectors[:25])
                    self.assertEqual(self.stats(two)["hits"], 25)
            with self.serve(server) as three:  # after a restart of all
                again, _ = self.embed(three, *texts)
                self.assertEqual(again, vectors)
                self.assertEqual(self.stats(three)["hits"], 40)
                self.assertGreaterEqual(self.stats(three)["entries"], 40)

    def test_absent_frozen_killed(self):
        with self.make() as server, self.serve(server) as service:
            count = iter(range(10000))

            def ask():
                text = "text %d" % next(count)
                took = self.embed(service, text)[1]
                self.assertLess(took, SLOW)
                return took

            def down():
                ask()
                return not self.is_up(service)

            def up():
                ask()
                return self.is_up(service)

            until(down, "the service to see that there is no store")
            server.start()
            until(up, "the service to find the store")
            server.freeze()
            until(down, "the service to see that the store is frozen")
            self.assertLess(min(ask() for _ in range(20)), AT_BEST)
            self.assertGreater(self.stats(service)["timeouts"], 0)
            server.thaw()
            until(up, "the service to go on with the store")
            server.kill()
            until(down, "the service to see that the store is gone")
            server.start()
            until(up, "the service to find the store again")
            before = self.stats(service)["stored"]
            ask()
            until(lambda: self.stats(service)["stored"] > before, "vectors to be stored again")

    def test_stopping_while_the_store_is_frozen(self):
        with self.make() as server:
            server.start()
            with self.serve(server) as service:
                self.embed(service, "a")
                server.freeze()
                self.embed(service, "b", "c")
                start = time.monotonic()
                self.assertEqual(service.stop(), 0)
                self.assertLess(time.monotonic() - start, 25)
            server.thaw()


class OnRedis(Common, unittest.TestCase):
    make = staticmethod(Redis)

    def test_full_and_wrong_password(self):
        with self.make() as server:
            server.start()
            with self.serve(server) as service:
                self.embed(service, "a")
                until(lambda: self.stats(service)["stored"] >= 1, "a vector to be stored")
                server.command("CONFIG", "SET", "maxmemory", "1")
                self.embed(service, "b")
                until(lambda: "full" in (self.stats(service)["last_error"] or ""), "the word that Redis is full")
                self.embed(service, "a", "b", "c")
                self.assertTrue(self.is_up(service))  # it still answers reads
                server.command("CONFIG", "SET", "maxmemory", "0")
                until(lambda: self.stats(service)["stored"] >= 3, "what could not be written to be written")
            with self.serve(server, url="redis://someone:hunter2@127.0.0.1:%d" % server.port) as service:
                self.embed(service, "a")
                until(lambda: self.stats(service)["last_error"], "the word of the refusal")
                self.assertIn("does not accept", self.stats(service)["last_error"])
                self.assertNotIn("hunter2", str(self.stats(service)) + str(service.lines))


class OnPostgresql(Common, unittest.TestCase):
    make = staticmethod(Postgresql)

    def test_texts_are_stored_when_asked_for(self):
        with self.make() as server:
            server.start()
            with self.serve(server, EMBEDD_CACHE_STORE_TEXT="true") as service:
                self.embed(service, "gr\u00fc\u00dfe")
                until(lambda: self.stats(service)["stored"] >= 1, "a vector to be stored")
            self.assertEqual(server.sql("SELECT model, dimension, convert_from(text, 'UTF8') FROM embedd_cache"),
                             "all-MiniLM-L6-v2|384|gr\u00fc\u00dfe")


if __name__ == "__main__":
    unittest.main(verbosity=2)
