"""Requests with random damage, pipelined, cut anywhere, from clients that may leave: no crash, no leak, no 500."""
import os
import random
import socket
import unittest

from harness import ROOT, Case, until

SEEDS = os.path.join(ROOT, "tests", "fuzz", "corpus", "fuzz_http_head")
ROUTES = (b"/echo", b"/park", b"/stream?pieces=3", b"/large?bytes=100000", b"/sleep?ms=3", b"/about?a=1")
INSERTS = (b"\r\n", b"\n", b"\0", b" ", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"x" * 3000)


class Garbage(Case):
    def seeds(self):
        seeds = []
        for name in sorted(os.listdir(SEEDS)):
            with open(os.path.join(SEEDS, name), "rb") as f:
                seeds.append(f.read())
        for route in ROUTES:
            head = b"POST " + route + b" HTTP/1.1\r\nHost: a\r\n"
            seeds.append(head + b"Content-Length: 3\r\n\r\nabc")
            seeds.append(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        return seeds

    def damaged(self, r, seeds):
        data = bytearray(b"".join(r.choice(seeds) for _ in range(r.randint(1, 6))))
        for _ in range(r.choice((0, 0, 1, 2, 5))):
            at, how = r.randrange(len(data) + 1), r.random()
            if how < 0.4 and at < len(data):
                data[at] = r.randrange(256)
            elif how < 0.7:
                del data[at:at + r.randint(1, 9)]
            else:
                data[at:at] = r.choice(INSERTS)
        return bytes(data)

    def talk(self, server, r, data):
        with self.client(server) as c:
            c.socket.settimeout(5)
            try:
                at = 0
                while at < len(data):
                    n = r.randint(1, len(data)) if r.random() < 0.8 else r.randint(1, 5)
                    c.send(data[at:at + n])
                    at += n
                if r.random() < 0.6:
                    c.socket.shutdown(socket.SHUT_WR)
                    c.ended()
            except OSError:  # it has been refused, and goes on sending
                pass

    def test_random_damage(self):
        s = self.server(loops=2, head_timeout_ms=200, body_timeout_ms=200, idle_timeout_ms=300, write_timeout_ms=300,
                        max_head_bytes=2048, max_body_bytes=20000, max_parked=8)
        seeds = self.seeds()
        for seed in range(400):
            r = random.Random(seed)
            self.talk(s, r, self.damaged(r, seeds))
        until(lambda: s.stats()["active"] == 0 and s.stats()["connections"] == 0, "all to be gone")
        self.assertEqual(self.client(s).request("POST", "/park", b"x").body, b"x")
        records = s.close()
        self.assertGreater(records["400"], 30)
        self.assertGreater(records["200"], 30)
        self.assertNotIn("500", records)


if __name__ == "__main__":
    unittest.main()
