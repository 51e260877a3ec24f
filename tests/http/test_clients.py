"""Clients that leave, that come in thousands, and that find the server full."""
import os
import socket
import struct
import threading
import unittest

from harness import Case, SANITIZED, many_files, until


class Leaving(Case):
    def reset(self, c):
        """Closes with a reset instead of a clean end."""
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()

    def test_client_that_leaves_while_parked(self):
        s = self.server()
        for leave in (lambda c: c.close(), self.reset, lambda c: c.socket.shutdown(socket.SHUT_WR)):
            before = s.records()["gone"]
            c = self.client(s)
            c.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: s.stats()["parked"] == 1, "the request to be parked")
            leave(c)
            until(lambda: s.stats()["parked"] == 0, "the worker to see that its client has left")
            until(lambda: s.records()["gone"] == before + 1, "the record")
        until(lambda: s.stats()["active"] == 0, "all requests to be ended")

    def test_client_that_leaves_with_much_sent_ahead(self):
        """Reading has stopped then: the hangup must be seen all the same."""
        s = self.server(max_head_bytes=1024)
        c = self.client(s)
        c.send(b"GET /sleep?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        until(lambda: s.stats()["parked"] == 1, "the request to be parked")
        c.close()
        until(lambda: s.records()["gone"] == 1, "the record")
        self.assertEqual(s.records()["total"], 1)

    def test_client_that_leaves_within_a_request(self):
        s = self.server()
        for part in ("G", "GET /echo HTTP/1.1\r\nHo", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
                     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
            for leave in (lambda c: c.close(), self.reset):
                c = self.client(s)
                c.send(part)
                if "\r\n\r\n" in part:  # a reset can overtake what was sent before it
                    until(lambda: s.stats()["active"] == 1, "the head to be read")
                leave(c)
                until(lambda: s.stats()["active"] == 0, "the request to be given up")
        until(lambda: s.records()["gone"] == 4, "the records of those of which the head was there")
        until(lambda: s.stats()["connections"] == 0 and s.stats()["active"] == 0, "the connections to be closed")
        self.assertEqual(s.records()["gone"], 4)

    def test_half_closed_client_gets_its_answer(self):
        s = self.server()
        c = self.client(s)
        c.send("POST /large?bytes=20000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        c.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(len(c.read().body), 20000000)
        self.assertTrue(c.ended())

    def test_client_that_leaves_a_stream(self):
        s = self.server()
        for leave in (lambda c: c.close(), self.reset):
            c = self.client(s, receive_buffer=4096)
            c.send("GET /stream?pieces=100000&bytes=10000 HTTP/1.1\r\nHost: a\r\n\r\n")
            c.fill()
            leave(c)
            until(lambda: s.stats()["active"] == 0, "the stream to end")
        self.assertEqual(s.records()["dropped"], 2)
        self.assertLess(s.memory_kib(), 1 << 20 if SANITIZED else 64 << 10)  # never the whole gigabyte

    def test_storm(self):
        """Clients of every kind at once, that leave at any point; afterwards nothing is left."""
        s = self.server(loops=3, max_parked=16, idle_timeout_ms=5000)
        base = s.files()

        def client(seed):
            for i in range(60):
                k = (seed * 31 + i * 17) % 7
                c = self.client(s)
                route = ("/echo", "/park", "/sleep?ms=2", "/stream?pieces=5&bytes=70000", "/large?bytes=300000",
                         "/park-large?bytes=300000", "/nothing")[k]
                c.send("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" % route)
                if (seed + i) % 3 == 0:
                    self.reset(c)
                elif (seed + i) % 3 == 1:
                    c.close()
                else:
                    a = c.read()
                    self.assertIn(a.status, (200, 429, 500))
                    c.close()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        until(lambda: s.stats()["active"] == 0 and s.stats()["connections"] == 0, "all to be gone")
        until(lambda: s.stats()["parked"] == 0, "all workers to be free")
        self.assertEqual(s.files(), base)
        last = self.client(s)
        self.assertEqual(last.request("POST", "/park", b"x").body, b"x")


class Full(Case):
    def test_over_the_bound(self):
        s = self.server(max_parked=3)
        held = [self.client(s) for _ in range(3)]
        for c in held:
            c.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: s.records()["held"] == 3, "all places to be taken")
        c = self.client(s)
        for _ in range(20):
            a = c.request("GET", "/hold")
            self.assertEqual((a.status, a["retry-after"]), (429, "1"))
        self.assertEqual(c.request("GET", "/echo").status, 200)  # in place: needs none
        self.assertEqual((s.stats()["parked"], s.records()["refused"]), (3, "overload"))
        s.say("release")
        for h in held:
            self.assertEqual(h.read().body, b"held")
        for h in held:  # a place is free once its answer has come, whatever its worker still does
            for _ in range(100):
                self.assertEqual(h.request("POST", "/park", b"x").status, 200)

    def test_every_place_has_a_thread_at_once(self):
        s = self.server(max_parked=100)
        clients = [self.client(s) for _ in range(100)]
        for c in clients:
            c.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: s.records()["held"] == 100, "100 workers at once")
        s.say("release")
        for c in clients:
            self.assertEqual(c.read().status, 200)

    def test_connections_over_the_limit_are_closed(self):
        s = self.server(max_connections=5)
        kept = [self.client(s) for _ in range(5)]
        for c in kept:
            self.assertEqual(c.request("GET", "/echo").status, 200)
        for _ in range(10):
            c = self.client(s)
            self.assertTrue(c.ended())
        until(lambda: s.records()["refused"] == "connections", "the record")
        kept.pop().close()
        until(lambda: s.stats()["connections"] == 4, "the place to be free")
        self.assertEqual(self.client(s).request("GET", "/echo").status, 200)

    def connect_many(self, s, count):
        clients = []
        for _ in range(count):
            c = self.client(s)
            clients.append(c)
        return clients

    def test_a_thousand_idle_connections(self):
        many_files()
        s = self.server(loops=2)
        self.assertEqual(self.client(s).request("POST", "/echo", b"x" * 1000).status, 200)
        before = s.memory_kib()
        clients = self.connect_many(s, 1000)
        for c in clients:
            c.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        for c in clients:
            self.assertEqual(c.read().status, 200)
        if not SANITIZED:
            self.assertLess(s.memory_kib() - before, 4 << 10, "KiB for 1,000 idle connections")
        self.assertGreaterEqual(s.stats()["connections"], 1000)

    def test_ten_thousand_connections(self):
        if many_files() < 10200:
            self.skipTest("RLIMIT_NOFILE is below 10,200")
        if SANITIZED:
            self.skipTest("too slow under sanitizers")
        s = self.server(loops=2, max_connections=20000)
        clients = self.connect_many(s, 10000)
        for c in clients[::100]:
            c.send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        for c in clients[::100]:
            self.assertEqual(c.read().status, 200)
        until(lambda: s.stats()["connections"] == 10000, "the last of them to be accepted")
        for c in clients:
            c.close()
        until(lambda: s.stats()["connections"] == 0, "all to be closed")

    def test_out_of_descriptors(self):
        """A server that can accept no more goes on serving, and accepts again when it can."""
        s = self.server()
        import resource
        resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE, (s.files() + 10, s.files() + 10))
        clients = self.connect_many(s, 30)  # the kernel completes them
        clients[0].send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(clients[0].read().status, 200)
        turned = os.times()
        for c in clients[:15]:
            c.close()
        clients[29].send("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        for c in clients[15:29]:
            c.close()
        self.assertEqual(clients[29].read().status, 200)
        self.assertLess(os.times().elapsed - turned.elapsed, 30)


if __name__ == "__main__":
    unittest.main()
