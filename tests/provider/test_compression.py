"""Compressed answers: decoded where they were asked for, broken ones are errors, and one that grows without end is given up
at the bound of its answer's size."""
import gzip
import time
import unittest
import zlib

from driver import OK, PROVIDER, SANITIZED, UNAVAILABLE, Case, certificates, faults, words

TEXTS = words(3)


def zipped(name, change):
    """The good answer's gzip, changed."""
    @faults.named(name)
    def fault(x):
        reply = x.reply()
        body = change(gzip.compress(reply.body(), 6, mtime=0))
        x.send(faults.Plain(200, body, {**reply.headers, "Content-Encoding": "gzip"}))
    return fault


def bomb(start, piece, most_bytes):
    """start, then piece again and again, compressed as it goes out: a few hundred bytes for each MiB."""
    @faults.named("bomb")
    def fault(x):
        x.reply()
        x.connection.send(x.head(200, {"Content-Type": "application/json", "Content-Encoding": "gzip",
                                       "Transfer-Encoding": "chunked"}))
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        data = packer.compress(start)
        for _ in range(most_bytes // len(piece)):
            data += packer.compress(piece)
            if len(data) >= 4096:
                x.connection.send(b"%x\r\n%s\r\n" % (len(data), data))
                data = b""
        return False
    return fault


class Compression(Case):
    kind = "openai"

    def test_is_asked_for(self):
        up, p = self.pair({"compress": True})
        self.right(p.embed(TEXTS), TEXTS)
        self.assertEqual(up.requests[0].headers["accept-encoding"], "gzip")

    def test_is_not_asked_for(self):
        up, p = self.pair({"compress": True}, compress=False)
        self.right(p.embed(TEXTS), TEXTS)
        self.assertNotIn("accept-encoding", up.requests[0].headers)

    def test_large(self):
        """Through TLS and HTTP/2 as well."""
        texts = words(300)
        for tls in (None, certificates.server(), certificates.server(alpn=["h2"])):
            with self.subTest(tls=tls):
                up = self.upstream(compress=True, dimension=512, tls=tls)
                p = self.provider(up, ca_file=certificates.ca(), base64=False)
                self.right(p.embed(texts, dimension=512), texts, dimension=512)

    def test_empty_and_members(self):
        """An answer in two members of gzip is one answer; whether libcurl takes the second or refuses it, nothing wrong comes."""
        def halves(x):
            body = x.reply().body()
            middle = len(body) // 2
            data = gzip.compress(body[:middle], 6, mtime=0) + gzip.compress(body[middle:], 6, mtime=0)
            x.send(faults.Plain(200, data, {"Content-Encoding": "gzip"}))
        up, p = self.pair(max_retries=0)
        up.always(halves)
        answer = self.sound(p.embed(TEXTS))
        self.right(answer, TEXTS) if answer["status"] == OK else self.failed(answer, PROVIDER)

    def test_broken(self):
        """A clear error, one more try at most, and billed: it was computed."""
        plan = [zipped("cut", lambda b: b[:len(b) // 2]), zipped("wrong_sum", lambda b: b[:-8] + bytes(8)),
                zipped("wrong_bits", lambda b: b[:20] + bytes(20) + b[40:]), zipped("no_gzip", lambda b: b"{}" + b),
                zipped("nothing", lambda b: b""), faults.bad_gzip]
        up, p = self.pair(max_retries=3)
        for fault in plan:
            with self.subTest(fault=fault.__name__):
                up.reset_record()
                up.always(fault)
                answer = self.failed(p.embed(TEXTS), PROVIDER, UNAVAILABLE)
                self.assertLessEqual(up.calls, 2)
                self.assertEqual(set(answer["hooks"]["billed"]), {True})
                self.assertIn("provider upstream", answer["message"])
                up.script([fault])
                again = self.sound(p.embed(TEXTS))
                self.right(again, TEXTS) if again["status"] == OK else self.failed(again, PROVIDER, UNAVAILABLE)

    def test_unknown_encoding(self):
        """What was not asked for is not taken for text."""
        up, p = self.pair(max_retries=0)
        up.always(lambda x: x.send(faults.Plain(200, x.reply().body(), {"Content-Encoding": "br"})))
        answer = self.sound(p.embed(TEXTS))
        self.right(answer, TEXTS) if answer["status"] == OK else self.failed(answer, PROVIDER)

    def test_error_is_compressed(self):
        """An error's words are read through gzip."""
        def limited(x):
            answer = x.error(429, "insufficient_quota", "You exceeded your current quota.", type="insufficient_quota")
            x.send(faults.Plain(429, gzip.compress(answer.body(), mtime=0), {"Content-Encoding": "gzip"}))
        up, p = self.pair()
        up.always(limited)
        answer = self.failed(p.embed(TEXTS), UNAVAILABLE)
        self.assertEqual(answer["hooks"]["ends"], ["quota"])
        self.assertIn("current quota", answer["message"])

    @unittest.skipIf(SANITIZED, "memory of sanitizers is not the program's")
    def test_bomb(self):
        """4 GiB in 4 MiB: an array of numbers, a text, white space. Given up after a few MiB, not tried again."""
        up, p = self.pair(max_retries=3)
        self.right(p.embed(TEXTS), TEXTS)
        before = p.peak_kib()
        for start, piece in ((b"[", b"0," * (1 << 19)), (b'{"data":"', b"a" * (1 << 20)), (b"{", b" " * (1 << 20))):
            with self.subTest(start=start):
                up.reset_record()
                up.always(bomb(start, piece, 4 << 30))
                started = time.monotonic()
                answer = self.failed(p.embed(TEXTS), PROVIDER)
                self.assertLess(time.monotonic() - started, 20)
                self.assertIn("larger than any right one", answer["message"])
                self.assertEqual((answer["hooks"]["ends"], up.calls), (["bad_answer"], 1))
        self.assertLess(p.peak_kib() - before, 64 << 10)
        up.script([])
        self.right(p.embed(TEXTS), TEXTS)


del Case

if __name__ == "__main__":
    unittest.main(verbosity=2)
