"""Providers over HTTP/2: parts share a connection, a server that restarts costs nothing twice, a connection that died without
a word is left, and servers without HTTP/2 work as before."""
import threading
import unittest

from driver import OK, SLACK, UNAVAILABLE, Case, certificates, faults, h2, words

TEXTS = words(3)


class Http2(Case):
    kind = "openai"

    def pair(self, upstream=None, alpn=("h2", "http/1.1"), **options):
        up = self.upstream(tls=certificates.server(alpn=list(alpn)), **(upstream or {}))
        return up, self.provider(up, **{"ca_file": certificates.ca(), **options})

    def protocols(self, up):
        return {protocol for _, _, protocol in up.handshakes}

    def test_is_used(self):
        up, p = self.pair()
        self.right(p.embed(TEXTS), TEXTS)
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual((self.protocols(up), up.connections), ({"h2"}, 1))
        self.assertEqual({getattr(r, "protocol", None) for r in up.requests}, {"h2"})

    def test_is_not_offered(self):
        up, p = self.pair(http2=False)
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(self.protocols(up) & {"h2"}, set())

    def test_server_without_it(self):
        for alpn in (("http/1.1",), ()):
            with self.subTest(alpn=alpn):
                up, p = self.pair(alpn=alpn, max_batch_texts=1)
                self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual(self.protocols(up) & {"h2"}, set())

    def test_parts_share_a_connection(self):
        """All of a call's parts are on their way at once, over one connection."""
        up, p = self.pair(max_batch_texts=2, concurrency=6)
        texts, together = words(12), threading.Barrier(6)

        def meet(x):  # answered only when all six are there
            try:
                together.wait(30)
            except threading.BrokenBarrierError:
                return False
            x.send(x.reply())
        up.always(meet)
        self.right(p.embed(texts), texts)
        self.assertEqual((up.peak, up.calls, up.connections, len(up.handshakes)), (6, 6, 1, 1))

    def test_few_streams(self):
        """A server that allows one stream at a time is not asked for more on a connection."""
        up = self.upstream(tls=certificates.server(alpn=["h2"]))
        up.most_streams = 1
        p = self.provider(up, ca_file=certificates.ca(), max_batch_texts=2, concurrency=4)
        texts = words(16)
        self.right(p.embed(texts), texts)
        self.assertEqual(up.calls, 8)

    def test_large(self):
        """More than the windows of HTTP/2, up and down."""
        up, p = self.pair({"dimension": 1024})
        texts = words(200)
        texts = [t + " and on" * 100 for t in texts]
        self.right(p.embed(texts, dimension=1024), texts, dimension=1024)

    def test_refused_stream(self):
        """The server did not look at it: it is sent again, and billed once."""
        for warm in (True, False):
            for fault in (h2.refused_stream, h2.goaway):
                with self.subTest(fault=fault.__name__, warm=warm):
                    up, p = self.pair()
                    if warm:
                        self.right(p.embed(TEXTS), TEXTS)
                        up.reset_record()
                    up.script([fault])
                    answer = self.right(p.embed(TEXTS), TEXTS)
                    self.assertEqual((len(answer["hooks"]["ends"]), answer["hooks"]["ends"][-1]), (2, "ok"))
                    self.assertEqual([r.tokens > 0 for r in up.embeddings()], [False, True])

    def test_refused_for_ever(self):
        up, p = self.pair(max_retries=2)
        up.always(h2.refused_stream)
        answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertLessEqual(up.calls, 3)
        self.assertEqual(answer["attempts"], 3)
        self.assertEqual(up.billed_tokens, 0)
        self.state_is_idle(p)

    def test_goaway_with_an_answer(self):
        """What the server has begun it ends; the next call takes another connection."""
        up, p = self.pair()
        up.script([h2.goaway_after])
        answer = self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(answer["hooks"]["ends"], ["ok"])
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual((up.calls, up.connections), (2, 2))

    def test_goaway_among_parts(self):
        """One of several parts is refused when the server restarts: all come home, none is computed twice."""
        up, p = self.pair(max_batch_texts=2, concurrency=4)
        texts, once = words(16), []

        def restart(r):
            if texts[7] in r.texts and not once:
                once.append(r.number)
                return h2.refused_stream
            return None
        up.script(restart)
        self.right(p.embed(texts), texts)
        self.assertEqual(up.calls, 9)
        self.assertEqual(sum(1 for r in up.embeddings() if r.tokens), 8)

    def test_reset_stream(self):
        """Computed, then lost: it may be billed, and is made again."""
        up, p = self.pair()
        up.script([h2.reset_stream])
        answer = self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(answer["hooks"]["ends"], ["broken", "ok"])
        self.assertEqual(answer["hooks"]["billed"], [True, True])

    def test_passing_faults(self):
        up, p = self.pair()
        for fault in (faults.reset, faults.server_error, faults.bad_gateway):
            with self.subTest(fault=fault.__name__):
                up.reset_record()
                up.script([fault])
                answer = self.right(p.embed(TEXTS), TEXTS)
                self.assertEqual((up.calls, len(answer["hooks"]["ends"])), (2, 2))

    def test_peer_restarts(self):
        up, p = self.pair()
        for _ in range(3):
            self.right(p.embed(TEXTS), TEXTS)
            up.drop_connections()

    def test_one_stream_is_slow(self):
        """A part that times out takes nothing from the others on its connection."""
        up, p = self.pair(max_batch_texts=2, concurrency=4, timeout_ms=4000, max_retries=2)
        texts, once = words(8), []

        def slow(r):
            if texts[3] in r.texts and not once:
                once.append(r.number)
                return faults.black_hole
            return None
        up.script(slow)
        answer = self.right(p.embed(texts), texts)
        self.assertEqual((sorted(set(answer["hooks"]["ends"])), answer["hooks"]["ends"].count("timeout")), (["ok", "timeout"], 1))

    def test_dead_connection(self):
        """One that a load balancer forgot: nothing comes any more. The retry takes another connection."""
        up, p = self.pair(timeout_ms=2000)
        self.right(p.embed(TEXTS), TEXTS)
        up.script([h2.deaf])
        answer = self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(answer["hooks"]["ends"], ["timeout", "ok"])
        self.assertEqual(up.connections, 2)
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(self.state_is_idle(p)["failures"], 0)

    def test_dead_connection_and_deadline(self):
        """A call whose deadline ends on a dead connection does not leave it to the next one."""
        up, p = self.pair()
        self.right(p.embed(TEXTS), TEXTS)
        up.script([h2.deaf])
        answer = self.sound(p.embed(TEXTS, timeout_ms=300))
        self.assertNotEqual(answer["status"], OK)
        self.assertLess(answer["ms"], 300 + SLACK)
        answer = self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(answer["attempts"], 1)

    def test_hedge_on_a_dead_connection(self):
        """It takes a connection of its own, or it would wait as the first does."""
        up, p = self.pair(hedge_ms=500)
        self.right(p.embed(TEXTS), TEXTS)
        for _ in range(2):  # nor does the next call take the dead one
            before = up.connections
            up.script([h2.deaf])
            answer = self.right(p.embed(TEXTS), TEXTS)
            self.assertEqual(sorted(answer["hooks"]["ends"]), ["cancelled", "ok"])
            self.assertGreater(up.connections, before)
        self.assertLess(self.right(p.embed(TEXTS), TEXTS)["ms"], 5000 + SLACK)

    def test_cancelled(self):
        """Others on the connection do not notice."""
        up, p = self.pair()
        self.right(p.embed(TEXTS), TEXTS)
        up.script([faults.black_hole])
        self.assertNotEqual(p.embed(TEXTS, cancel_after_ms=100)["status"], OK)
        self.right(p.embed(TEXTS), TEXTS)

    def test_storm(self):
        up, p = self.pair(max_batch_texts=3, concurrency=6, max_retries=4)
        plan = [h2.refused_stream, h2.reset_stream, h2.goaway, h2.goaway_after, faults.server_error, faults.reset]
        up.script(lambda r: plan[r.number // 5 % len(plan)] if r.number % 5 == 0 else None)
        texts = words(9)
        for one in p.embed(texts, threads=6)["results"]:
            self.right(one, texts) if one["status"] == OK else self.failed(one, UNAVAILABLE)
        self.state_is_idle(p)


del Case

if __name__ == "__main__":
    unittest.main(verbosity=2)
